// Command dashboard serves a dashboard behind a login: a password (basic.go), or
// Identity-Aware Proxy (iap.go). It shows an emulator of its own, with one task;
// in production, dashboard.NewAdminSource shows Cloud Tasks.
//
//	go run ./examples/dashboard            # then http://ops:open-sesame@127.0.0.1:8080/ops/tasks/
//	go run ./examples/dashboard -iap /projects/123/global/backendServices/456
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/dashboard/emulatorsource"
	"github.com/brillconsulting/handoff/emulator"
)

func main() {
	addr := flag.String("listen", "127.0.0.1:8080", "address to serve on")
	audience := flag.String("iap", "", "audience of Identity-Aware Proxy's assertions; without it, a password is asked for")
	password := flag.String("password", "open-sesame", "password of the user ops")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *addr, *audience, *password)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr, audience, password string) error {
	authorize := basicAuth("ops", password)
	if audience != "" {
		var err error
		if authorize, err = iapAuth(ctx, audience); err != nil {
			return err
		}
	}
	tasks, err := emulator.New(emulator.Config{})
	if err != nil {
		return err
	}
	defer tasks.Close()
	if err := addTask(ctx, tasks); err != nil {
		return err
	}
	source, err := emulatorsource.New(tasks)
	if err != nil {
		return err
	}
	defer source.Close()
	board, err := dashboard.New(dashboard.Config{Source: source, Prefix: "/ops/tasks", Authorize: authorize})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/ops/tasks/", board)
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() {
		board.Close()
		_ = server.Close()
	})
	fmt.Printf("the dashboard is on http://%s/ops/tasks/\n", addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// addTask creates a queue and a task that is due in an hour.
func addTask(ctx context.Context, tasks *emulator.Server) error {
	client := cloudtaskspb.NewCloudTasksClient(tasks.Conn())
	queue := "projects/shop/locations/europe-west1/queues/emails"
	if _, err := client.UpdateQueue(ctx, &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{Name: queue}}); err != nil {
		return err
	}
	_, err := client.CreateTask(ctx, &cloudtaskspb.CreateTaskRequest{Parent: queue, Task: &cloudtaskspb.Task{
		ScheduleTime: timestamppb.New(time.Now().Add(time.Hour)),
		MessageType:  &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: "https://worker.example.com/tasks/welcome"}},
	}})
	return err
}
