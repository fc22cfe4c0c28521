package dashboard_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/brillconsulting/handoff/dashboard"
)

// BenchmarkQueuePage renders the first page of a queue of 100,000 tasks. For
// comparison it also only lists the page's tasks.
func BenchmarkQueuePage(b *testing.B) {
	m := newMetered(b, 100_000, dashboard.AdminSourceConfig{Unmetered: true})
	board, err := dashboard.New(dashboard.Config{Source: m, Authorize: func(*http.Request) error { return nil }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(board.Close)
	b.Run("page", func(b *testing.B) {
		for b.Loop() {
			rec := httptest.NewRecorder()
			board.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/queues/shop/europe-west1/emails", nil))
			if rec.Code != http.StatusOK {
				b.Fatal(rec.Code)
			}
		}
	})
	b.Run("source", func(b *testing.B) {
		for b.Loop() {
			if _, err := m.Queue(b.Context(), emails); err != nil {
				b.Fatal(err)
			}
			if _, err := m.Tasks(b.Context(), query(nil)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
