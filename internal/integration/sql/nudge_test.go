package sql_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/sqlstore"
	"github.com/brillconsulting/handoff/sqlstore/pgxtx"
)

// relayed runs a relay of the outbox until the end of the test.
func (s *shop) relayed(outbox *sqlstore.Outbox) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- outbox.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	})
}

// lag is how long rows wait, one after the other, until a relay has sent them.
func (s *shop) lag(rows int, committed func()) time.Duration {
	s.t.Helper()
	var waited time.Duration
	for range rows {
		time.Sleep(200 * time.Millisecond) // for the relay to find nothing and to wait
		s.enqueue(1, "q", (*sql.Tx).Commit)
		start := time.Now()
		committed()
		for {
			left, err := s.outbox.List(s.t.Context(), 0, 1, false)
			if err != nil {
				s.t.Fatal(err)
			}
			if len(left) == 0 {
				break
			}
			time.Sleep(5 * time.Millisecond) // between two looks
		}
		waited += time.Since(start)
	}
	return waited
}

// TestNudge: a relay that is nudged does not wait for its next look, be it of this
// process or, by NOTIFY, of another.
func TestNudge(t *testing.T) {
	t.Parallel()
	const rows = 4
	t.Run("same process", func(t *testing.T) {
		t.Parallel()
		s := newShop(t, "q")
		s.relayed(s.outbox)
		polled := s.lag(rows, func() {})
		nudged := s.lag(rows, func() { s.outbox.Nudge(t.Context()) })
		if nudged > polled/2 {
			t.Errorf("%d rows waited for %v with nudges and for %v without", rows, nudged, polled)
		}
	})
	t.Run("other process", func(t *testing.T) {
		t.Parallel()
		s := newShop(t, "q")
		heard := make(chan struct{}, 100)
		listen := pgxtx.Listen(server.URL())
		db, err := sqlstore.New(connect(t), sqlstore.Config{Dialect: sqlstore.Postgres, Schema: s.schema, Listen: func(ctx context.Context, channel string, notified func(string)) error {
			return listen(ctx, channel, func(payload string) {
				notified(payload)
				heard <- struct{}{}
			})
		}})
		if err != nil {
			t.Fatal(err)
		}
		s.relayed(db.Outbox(s.client))
		polled := s.lag(rows, func() {})
		for listening := false; !listening; {
			s.outbox.Nudge(t.Context())
			select {
			case <-heard:
				listening = true
			case <-time.After(time.Second): // the relay did not listen yet
			}
		}
		nudged := s.lag(rows, func() { s.outbox.Nudge(t.Context()) })
		if nudged > polled/2 {
			t.Errorf("%d rows waited for %v with notifications and for %v without", rows, nudged, polled)
		}
	})
}

// TestManyNudges: notifications are few, however many commits there are.
func TestManyNudges(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	heard, ready := make(chan string, 1000), make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- pgxtx.Listen(server.URL())(ctx, "handoff_outbox", func(payload string) {
			switch payload {
			case "ready":
				select {
				case ready <- struct{}{}:
				default:
				}
			case s.schema:
				heard <- payload
			}
		})
	}()
	for listening := false; !listening; {
		exec(t, s.pool, `SELECT pg_notify('handoff_outbox', 'ready')`)
		select {
		case <-ready:
			listening = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	start := time.Now()
	for range 200 {
		s.outbox.Nudge(t.Context())
	}
	most := 1 + int(time.Since(start)/(100*time.Millisecond))
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n := len(heard); n > most {
		t.Errorf("200 nudges were %d notifications, want at most %d", n, most)
	}
}

// TestListenFails: a relay that hears nothing looks by itself, and listens again.
func TestListenFails(t *testing.T) {
	t.Parallel()
	s := newShop(t, "q")
	var calls atomic.Int64
	db, err := sqlstore.New(s.pool, sqlstore.Config{Dialect: sqlstore.Postgres, Schema: s.schema, Listen: func(context.Context, string, func(string)) error {
		calls.Add(1)
		return errors.New("no LISTEN here")
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.relayed(db.Outbox(s.client))
	s.enqueue(1, "q", (*sql.Tx).Commit, handoff.In(time.Hour))
	for len(s.srv.Tasks(parent+"/queues/q")) == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	if calls.Load() == 0 {
		t.Error("the relay did not listen")
	}
}

// TestHandler: a sweep by Cloud Scheduler, from the caller that may.
func TestHandler(t *testing.T) {
	t.Parallel()
	s := newShop(t, "q")
	const audience, account = "https://shop.example.com/outbox", "scheduler@p.iam.gserviceaccount.com"
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{Audiences: []string{audience}, Callers: []string{account}, Keys: handoff.StaticKeys(s.srv.JWKS())})
	if err != nil {
		t.Fatal(err)
	}
	h := s.outbox.Handler(verifier)
	call := func(caller string) int {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/outbox", nil)
		if caller != "" {
			token, err := s.srv.Token(caller, audience)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+token)
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec.Code
	}
	s.enqueue(3, "q", (*sql.Tx).Commit)
	for caller, want := range map[string]int{"": http.StatusUnauthorized, "other@p.iam.gserviceaccount.com": http.StatusForbidden} {
		if got := call(caller); got != want {
			t.Errorf("caller %q: status %d, want %d", caller, got, want)
		}
	}
	s.want("q", 0, 3)
	if got := call(account); got != http.StatusOK {
		t.Errorf("status %d", got)
	}
	s.want("q", 3, 0)
	_ = s.pool.Close()
	if got := call(account); got != http.StatusInternalServerError {
		t.Errorf("without a database: status %d", got)
	}
}
