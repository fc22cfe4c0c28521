package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// serveBare is what the emulator's work cannot do without: a gRPC server that
// answers at once, one that sends each task on as well, or an HTTP client. It
// ends with its standard input, so it cannot outlive its parent.
func serveBare(ctx context.Context, kind string) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: bareCallers}}
	switch kind {
	case "grpc":
		return serveBareGRPC(ctx, bareServer{})
	case "relay":
		return serveBareGRPC(ctx, bareServer{relay: client})
	case "http":
		return serveBareHTTP(ctx, client)
	}
	return fmt.Errorf("-serve %s: it must be grpc, relay or http", kind)
}

// say tells the parent, which waits for the line.
func say(line string) { _, _ = fmt.Fprintln(os.Stdout, line) }

type bareServer struct {
	cloudtaskspb.UnimplementedCloudTasksServer

	relay *http.Client // nil: tasks are not sent on
}

func serveBareGRPC(ctx context.Context, server bareServer) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(128 << 20))
	cloudtaskspb.RegisterCloudTasksServer(srv, server)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		srv.Stop()
	}()
	say(l.Addr().String())
	return srv.Serve(l)
}

// CreateTask answers as the basic view would: without the body. What it sends
// on goes to a path that says when the call came, in Unix nanoseconds.
func (s bareServer) CreateTask(ctx context.Context, req *cloudtaskspb.CreateTaskRequest) (*cloudtaskspb.Task, error) {
	now := timestamppb.Now()
	task := req.GetTask()
	if s.relay != nil {
		url := fmt.Sprintf("%s/%d", task.GetHttpRequest().GetUrl(), now.AsTime().UnixNano())
		go func() { _ = post(context.WithoutCancel(ctx), s.relay, url) }() // its parent misses it
	}
	task.Name = req.GetParent() + "/tasks/12345678901234567890"
	task.ScheduleTime, task.CreateTime, task.View = now, now, cloudtaskspb.Task_BASIC
	task.GetHttpRequest().Body = nil
	return task, nil
}

func (s bareServer) BatchCreateTasks(ctx context.Context, req *cloudtaskspb.BatchCreateTasksRequest) (*longrunningpb.Operation, error) {
	resp := new(cloudtaskspb.BatchCreateTasksResponse)
	for _, r := range req.GetRequests() {
		task, err := s.CreateTask(ctx, r)
		if err != nil {
			return nil, err
		}
		resp.Tasks = append(resp.Tasks, task)
	}
	answer, err := anypb.New(resp)
	return &longrunningpb.Operation{Name: location + "/operations/o", Done: true, Result: &longrunningpb.Operation_Response{Response: answer}}, err
}

// bareCallers is how many requests the client makes at a time.
const bareCallers = 100

// serveBareHTTP makes as many requests as it is told to by each line of
// standard input and says when it is done: as fast as it can or, with a rate, so
// many a second, each to a path that says when it is due, in Unix nanoseconds.
func serveBareHTTP(ctx context.Context, client *http.Client) error {
	say("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var n, rate int
		var url string
		if _, err := fmt.Sscan(lines.Text(), &n, &rate, &url); err != nil {
			return err
		}
		begun := time.Now()
		if err := eachOf(n, bareCallers, func(i int) error {
			if rate == 0 {
				return post(ctx, client, url)
			}
			due := begun.Add(time.Duration(i) * time.Second / time.Duration(rate))
			time.Sleep(time.Until(due))
			return post(ctx, client, fmt.Sprintf("%s/%d", url, due.UnixNano()))
		}); err != nil {
			return err
		}
		say("done")
	}
	return nil
}

// post sends what a dispatch of a small task has.
func post(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body100))
	if err != nil {
		return err
	}
	for name, value := range map[string]string{
		"X-CloudTasks-QueueName": "q0", "X-CloudTasks-TaskName": "12345678901234567890", "X-CloudTasks-TaskRetryCount": "0",
		"X-CloudTasks-TaskExecutionCount": "0", "X-CloudTasks-TaskETA": fmt.Sprintf("%.6f", float64(time.Now().UnixMicro())/1e6),
		"User-Agent": "Google-Cloud-Tasks", "Accept-Encoding": "gzip, deflate, br",
	} {
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// bareHTTP has the bare client send n requests, so many a second or, at 0, as
// fast as it can.
func (p *process) bareHTTP(n, rate int, url string) error {
	if _, err := fmt.Fprintln(p.in, n, rate, url); err != nil {
		return err
	}
	line, err := p.out.ReadString('\n')
	if err != nil || line != "done\n" {
		return fmt.Errorf("the bare client said %q: %w", line, err)
	}
	return nil
}
