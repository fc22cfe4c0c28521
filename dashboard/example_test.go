package dashboard_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/emulator"
)

// In your service, use the authorization that its other pages for staff have. New
// fails without one.
func ExampleNew() {
	cloud, err := emulator.New(emulator.Config{}) // in production there is none, and no Options
	if err != nil {
		panic(err)
	}
	defer cloud.Close()
	a, err := admin.New(context.Background(), admin.Config{Project: "my-project", Location: "europe-west1", Options: cloud.ClientOptions()})
	if err != nil {
		panic(err)
	}
	defer a.Close()
	source, err := dashboard.NewAdminSource(dashboard.AdminSourceConfig{Admin: a})
	if err != nil {
		panic(err)
	}
	board, err := dashboard.New(dashboard.Config{
		Source: source,
		Prefix: "/ops/tasks",
		Authorize: func(r *http.Request) error {
			if r.Header.Get("X-Role") != "staff" { // your session, your roles
				return errors.New("not of the staff")
			}
			return nil
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	defer board.Close()
	mux := http.NewServeMux()
	mux.Handle("/ops/tasks/", board)

	for _, role := range []string{"", "staff"} {
		r := httptest.NewRequest(http.MethodGet, "/ops/tasks/", nil)
		r.Header.Set("X-Role", role)
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, r)
		fmt.Println(rec.Code)
	}
	_, err = dashboard.New(dashboard.Config{Source: source})
	fmt.Println(err)
	// Output:
	// 403
	// 200
	// dashboard: Config.Authorize is nil: anybody could purge your queues; set it, or Loopback to allow requests from this machine only
}
