// Command mailer is the worker of docs/operating.md. Its one handler needs a
// template file, which the page leaves out at first.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"text/template"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/middleware"
	"github.com/brillconsulting/handoff/redisstore"
	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
)

type welcomeEmail struct {
	UserID string `json:"user_id"`
}

func (welcomeEmail) Kind() string { return "welcome-email" }

// send writes the mail to stdout. A retry does not help if the template is missing,
// so that error is permanent.
func send(file string) func(context.Context, welcomeEmail) error {
	return func(_ context.Context, e welcomeEmail) error {
		text, err := template.ParseFiles(file)
		if err != nil {
			return handoff.Permanent(err)
		}
		return text.Execute(os.Stdout, e)
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "mailer:", err)
		os.Exit(1) //nolint:gocritic // stop has nothing left to do
	}
}

func run(ctx context.Context) error {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	redisURL := flag.String("redis", "redis://127.0.0.1:6379", "Redis for the claims and the dead letters")
	keys := flag.String("keys", "http://127.0.0.1:8124/oauth2/v3/certs", "public keys that verify deliveries; the default is the emulator's")
	file := flag.String("template", "welcome.tmpl", "file with the text of the mail")
	flag.Parse()

	options, err := redis.ParseURL(*redisURL)
	if err != nil {
		return err
	}
	rdb := redis.NewClient(options)
	defer rdb.Close()
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{"http://" + *addr},
		Callers:   []string{"tasks@demo.iam.gserviceaccount.com"},
		Keys:      handoff.RemoteKeys(*keys),
	})
	if err != nil {
		return err
	}
	observer, err := middleware.Logger(middleware.LoggerConfig{})
	if err != nil {
		return err
	}
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier:    verifier,
		Store:       redisstore.New(rdb, nil),
		DeadLetters: redisstore.NewDeadLetters(rdb, nil),
		Observers:   []handoff.Observer{observer},
		Logger:      slog.Default(),
	})
	if err != nil {
		return err
	}
	handoff.Handle(router, send(*file))
	e := echo.New()
	router.Mount(e.Group("/tasks"))
	return serve(ctx, *addr, e, router)
}

func serve(ctx context.Context, addr string, handler http.Handler, router *handoff.Router) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(router.Shutdown(end), server.Shutdown(end))
}
