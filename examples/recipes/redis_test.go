package recipes_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/examples/recipes"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/internal/redistest"
)

// userLine is the line of docs/recipes.md that makes the user of an environment.
var userLine = regexp.MustCompile(`(?m)^ACL SETUSER prod .*$`)

func userOf(t *testing.T, environment string) []any {
	t.Helper()
	page, err := os.ReadFile("../../docs/recipes.md")
	if err != nil {
		t.Fatal(err)
	}
	line := userLine.FindString(string(page))
	if line == "" {
		t.Fatal("docs/recipes.md has no line ACL SETUSER prod")
	}
	var args []any
	for word := range strings.FieldsSeq(strings.ReplaceAll(line, "prod", environment)) {
		args = append(args, word)
	}
	return args
}

// tlsRedis runs a Redis that speaks TLS alone, and returns a client of it that may do
// all, its address, and the file of its certificate.
func tlsRedis(t *testing.T) (admin *redis.Client, addr, certFile string) {
	t.Helper()
	server := httptest.NewTLSServer(nil) // for its certificate, which is valid for 127.0.0.1
	server.Close()
	dir := t.TempDir()
	write := func(name, block string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile = write("cert.pem", "CERTIFICATE", server.Certificate().Raw)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	plain := redistest.Start(t, "--tls-port", port, "--tls-cert-file", certFile, "--tls-key-file", write("key.pem", "PRIVATE KEY", key), "--tls-auth-clients", "no")
	admin = redis.NewClient(&redis.Options{Addr: plain})
	t.Cleanup(func() { _ = admin.Close() })
	return admin, "127.0.0.1:" + port, certFile
}

// TestRedis: by TLS, as the page's user, with its prefix, everything works, and
// nothing that the user may do is too much.
func TestRedis(t *testing.T) {
	t.Parallel()
	admin, addr, ca := tlsRedis(t)
	setUser := func(args ...any) {
		t.Helper()
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	user := userOf(t, "prod")
	setUser(user...)
	setUser(userOf(t, "staging")...)
	open := func(name string) (handoff.Store, handoff.DeadLetterStore, *redis.Client) {
		rdb, err := recipes.OpenRedis("rediss://"+name+":PASSWORD@"+addr, ca)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = rdb.Close() })
		store, letters := recipes.Stores(rdb, name)
		return store, letters, rdb
	}
	for _, environment := range []string{"prod", "staging"} {
		store, letters, rdb := open(environment)
		if err := exercise(t, store, letters, rdb); err != nil {
			t.Errorf("%s: %v", environment, err)
		}
	}
	if denied, err := admin.Do(t.Context(), "ACL", "LOG").Slice(); err != nil || len(denied) > 0 {
		t.Errorf("denied: %v, %v", denied, err)
	}
	// The one environment sees nothing of the other.
	_, _, rdb := open("prod")
	_, letters := recipes.Stores(rdb, "staging")
	if _, err := letters.CountByKind(t.Context()); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("prod reads the letters of staging: %v", err)
	}
	// Without any one of its commands the user lacks something.
	for i, word := range user {
		command, ok := strings.CutPrefix(word.(string), "+")
		if !ok {
			continue
		}
		setUser(append(slices.Clone(user[:i]), user[i+1:]...)...)
		setUser("FLUSHALL")
		setUser("SCRIPT", "FLUSH")
		setUser("ACL", "LOG", "RESET")
		store, letters, rdb := open("prod")
		err := exercise(t, store, letters, rdb)
		if denied, _ := admin.Do(t.Context(), "ACL", "LOG").Slice(); err == nil && len(denied) == 0 {
			t.Errorf("the user may do %s and needs it for nothing", command)
		}
	}
}

// exercise does with a Redis all that workers, handoff dead and handoff key do.
func exercise(t *testing.T, store handoff.Store, letters handoff.DeadLetterStore, rdb *redis.Client) error {
	ctx := t.Context()
	router, err := handoff.NewRouter(handoff.RouterConfig{Verifier: handofftest.Verifier(t), Store: store, DeadLetters: letters, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	var fail error
	handoff.Handle(router, func(ctx context.Context, r report) error {
		held, _ := handoff.HeldFromContext(ctx)
		return errors.Join(held.Keep(ctx, []byte("half")), fail)
	})
	deliver := func(tenant string, returns error, outcome handoff.Outcome) func() error {
		return func() error {
			fail = returns
			got := handofftest.Deliver(t, router, report{tenant}, handofftest.With(handoff.Key(tenant)))
			if got.Outcome != outcome {
				return fmt.Errorf("%v, want %v", got, outcome)
			}
			return nil
		}
	}
	dead := handoff.Permanent(errors.New("dead"))
	for _, do := range []func() error{
		func() error { return rdb.Ping(ctx).Err() },
		deliver("a", errors.New("failed"), handoff.Failed),
		deliver("a", nil, handoff.Done),
		deliver("a", nil, handoff.Duplicate),
		deliver("b", dead, handoff.Dead),
		deliver("c", dead, handoff.Dead),
		func() error { return handle(ctx, letters) },
		func() error { return operate(ctx, store.(handoff.KeyStore), rdb) },
	} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// handle marks one letter as redriven and deletes the other.
func handle(ctx context.Context, letters handoff.DeadLetterStore) error {
	page, err := letters.List(ctx, handoff.DeadLetterQuery{Limit: 10})
	if err != nil || len(page.Letters) != 2 {
		return fmt.Errorf("%d letters, %w", len(page.Letters), err)
	}
	first, err := letters.Get(ctx, page.Letters[0].ID)
	if err != nil {
		return err
	}
	if err := letters.MarkRedriven(ctx, first.ID, first.BuriedAt); err != nil {
		return err
	}
	if err := letters.Delete(ctx, page.Letters[1].ID); err != nil {
		return err
	}
	_, err = letters.CountByKind(ctx)
	return err
}

// operate does what handoff key and handoff dead do besides.
func operate(ctx context.Context, keys handoff.KeyStore, rdb *redis.Client) error {
	lease := handoff.Lease{Key: "f:k", Owner: "o", TTL: time.Minute, Window: time.Minute}
	if _, err := keys.Claim(ctx, lease); err != nil {
		return err
	}
	if err := keys.Release(ctx, lease, true); err != nil {
		return err
	}
	if _, err := keys.ShowKey(ctx, lease.Key); err != nil {
		return err
	}
	if err := keys.FreeKey(ctx, lease.Key); err != nil {
		return err
	}
	return rdb.Scan(ctx, 0, "*", 100).Err() // for the letters of other prefixes
}
