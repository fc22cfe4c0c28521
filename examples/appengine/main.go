// Appengine is an App Engine app that enqueues its own tasks and handles them.
// App Engine tasks carry no token: the X-AppEngine headers authenticate them,
// because App Engine removes these from every request from outside. So it uses
// another verifier and another target than on Cloud Run; the rest is the same.
//
//	go run ./examples/appengine
//	curl -d name=Ada localhost:8080/sign
//
// On this machine Cloud Tasks is the emulator, configured with the addresses of
// the app's services. On App Engine:
//
//	gcloud tasks queues create guests --location=europe-west1
//	gcloud app deploy examples/appengine/app.yaml
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/brillconsulting/handoff"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	port := os.Getenv("PORT") // App Engine sets it
	if port == "" {
		port = "8080"
	}
	err := run(ctx, os.Getenv, ":"+port, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// ThankYou is the task that is enqueued when somebody signs the guest book.
type ThankYou struct {
	Name string `json:"name"`
}

// Kind implements handoff.Payload.
func (ThankYou) Kind() string { return "thank-you" }

// Policy sets its queue, TTL and retries.
func (ThankYou) Policy() handoff.Policy {
	return handoff.Policy{Queue: "guests", TTL: time.Hour, Deadline: time.Hour} // App Engine allows up to 24 h 15 s
}

func run(ctx context.Context, getenv func(string) string, addr string, out io.Writer) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	around, err := surroundingsOf(ctx, getenv, listener.Addr().(*net.TCPAddr).Port)
	if err != nil {
		return err
	}
	defer around.close()

	client, err := handoff.NewClient(ctx, handoff.ClientConfig{
		Project:  around.project,
		Location: around.location,
		Target:   handoff.AppEngineTarget{Path: "/tasks"}, // the default service; Service, Version and Instance select others
		Options:  around.options,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	verifier, err := handoff.NewAppEngine(handoff.AppEngineConfig{DangerouslyAssumeAppEngine: around.emulated})
	if err != nil {
		return err
	}
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier:    verifier,
		Store:       around.store,
		DeadLetters: around.letters,
	})
	if err != nil {
		return err
	}
	handoff.Handle(router, func(ctx context.Context, t ThankYou) error {
		info := handoff.InfoFromContext(ctx)
		fmt.Fprintf(out, "Dear %s, thank you. (queue %s, attempt %d, from App Engine: %t)\n", t.Name, info.Queue, info.Attempt, info.Caller.AppEngine)
		return nil
	})

	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.POST("/sign", func(c echo.Context) error {
		if _, err := client.Enqueue(c.Request().Context(), ThankYou{Name: c.FormValue("name")}); err != nil {
			return err
		}
		return c.String(http.StatusAccepted, "signed\n")
	})
	router.Mount(e.Group("/tasks"))
	return serve(ctx, listener, e, router, out)
}

func serve(ctx context.Context, listener net.Listener, handler http.Handler, router *handoff.Router, out io.Writer) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(out, "serving on port %d, until interrupted\n", listener.Addr().(*net.TCPAddr).Port)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second) // App Engine gives three
	defer cancel()
	return errors.Join(router.Shutdown(ctx), server.Close())
}
