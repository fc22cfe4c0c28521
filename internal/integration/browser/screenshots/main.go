// Screenshots takes pictures of each page of the dashboard, light and dark, wide
// and narrow, while examples/traffic keeps the emulator busy:
//
//	make screenshots
//
// The pictures that the documents show go to docs/screenshots too; all of them go
// to the output folder. Look at every one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/dashboard/emulatorsource"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/memstore"

	"github.com/brillconsulting/handoff/internal/integration/browser"
)

func main() {
	log.SetFlags(0)
	root := flag.String("root", "../../..", "root of the repository")
	out := flag.String("out", "../../../bin/screenshots", "folder for the pictures")
	keep := flag.String("keep", "", "folder for the pictures that the documents show; empty for none")
	busy := flag.Duration("busy", 75*time.Second, "how long the load runs before the first picture")
	flag.Parse()
	if err := run(*root, *out, *keep, *busy); err != nil {
		log.Fatal("screenshots: ", err)
	}
}

func run(root, out, keep string, busy time.Duration) error {
	path := browser.Find()
	if path == "" {
		return errors.New("chromium is not installed: apt-get install chromium")
	}
	for _, folder := range []string{out, keep} {
		if folder != "" {
			if err := os.MkdirAll(folder, 0o755); err != nil {
				return err
			}
		}
	}
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer w.close()
	stop, err := w.traffic(root)
	if err != nil {
		return err
	}
	defer stop()
	log.Printf("letting the load run for %v", busy)
	time.Sleep(busy)

	profile, err := os.MkdirTemp("", "chromium")
	if err != nil {
		return err
	}
	defer os.RemoveAll(profile)
	ctx, cancel, err := browser.Start(context.Background(), path, profile)
	if err != nil {
		return err
	}
	defer cancel()
	for _, p := range w.pages() {
		if err := shoot(ctx, p, out, keep); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// world is the dashboard, the emulator and the browser.
type world struct {
	srv     *emulator.Server
	letters *memstore.DeadLetters
	client  *handoff.Client
	source  *emulatorsource.Source
	board   *dashboard.Dashboard
	server  *httptest.Server
}

func newWorld() (*world, error) {
	srv, err := emulator.New(emulator.Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0"})
	if err != nil {
		return nil, err
	}
	w := &world{srv: srv, letters: memstore.NewDeadLetters()}
	if w.client, err = handoff.NewClient(context.Background(), handoff.ClientConfig{
		Project: "demo", Location: "europe-west1", Options: srv.ClientOptions(),
		Target: handoff.HTTPTarget{URL: "https://worker.example.com/tasks", ServiceAccount: "tasks@demo.iam.gserviceaccount.com"},
	}); err != nil {
		return nil, err
	}
	if w.source, err = emulatorsource.New(srv); err != nil {
		return nil, err
	}
	if w.board, err = dashboard.New(dashboard.Config{
		Source: w.source, DeadLetters: w.letters, Client: w.client, Loopback: true, Logger: slog.New(slog.DiscardHandler),
	}); err != nil {
		return nil, err
	}
	w.server = httptest.NewServer(w.board)
	return w, bury(w.letters)
}

func (w *world) close() {
	w.board.Close()
	w.server.Close()
	_ = w.source.Close()
	_ = w.client.Close()
	w.srv.Close()
}

// traffic runs examples/traffic against the emulator until stop is called.
func (w *world) traffic(root string) (stop func(), err error) {
	program := filepath.Join(os.TempDir(), fmt.Sprintf("traffic-%d", os.Getpid()))
	build := exec.Command("go", "build", "-o", program, "./examples/traffic")
	build.Dir = root
	if said, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, said)
	}
	cmd := exec.Command(program, "-keys", "http://"+w.srv.HTTPAddr()+"/oauth2/v3/certs")
	cmd.Env = append(os.Environ(), "CLOUD_TASKS_EMULATOR_HOST="+w.srv.GRPCAddr(), "REDIS_URL=")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = os.Remove(program)
	}, nil
}

// bury stores dead letters such as those tasks would leave.
func bury(letters *memstore.DeadLetters) error {
	now := time.Now()
	var errs []error
	for i := range 64 {
		l := handoff.DeadLetter{
			ID: fmt.Sprintf("Zq%02dk7xPvR3mW9sT1uY%02db", i, 63-i), Task: fmt.Sprintf("48213098%05d6621%02d", i*7919%100000, i),
			Queue: "emails", Kind: "welcome-email", HandoffID: fmt.Sprintf("Hd%02dQm5cL0aZ8nV2eXr%02d", i, i),
			Target: "https://worker.example.com/tasks/welcome-email", Payload: []byte(`{"user":"ada@example.com","locale":"en-GB"}`),
			Header:  map[string][]string{"Content-Type": {"application/json"}, "Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}},
			Reasons: []handoff.Reason{handoff.ReasonPermanent}, Attempts: 1, LastErr: "550 5.1.1 no such user here",
			FirstAt: now.Add(-time.Duration(i+1) * 7 * time.Minute), BuriedAt: now.Add(-time.Duration(i) * 7 * time.Minute),
		}
		switch i % 5 {
		case 1, 3:
			l.Queue, l.Kind, l.Target = "invoices", "invoice", "https://worker.example.com/tasks/invoice"
			l.Reasons, l.Attempts, l.LastErr = []handoff.Reason{handoff.ReasonExhausted}, 5, "ledger: deadlock detected (SQLSTATE 40P01)"
		case 4:
			l.Queue, l.Kind, l.Target = "thumbnails", "thumbnail", "https://worker.example.com/tasks/thumbnail"
			l.Reasons, l.Attempts, l.LastErr = []handoff.Reason{handoff.ReasonCrashed, handoff.ReasonExpired}, 4, "decode: image too large for 512 MiB"
		}
		errs = append(errs, letters.Put(context.Background(), l))
	}
	return errors.Join(errs...)
}
