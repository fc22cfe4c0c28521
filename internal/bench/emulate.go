package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/brillconsulting/handoff/emulator"

	"github.com/brillconsulting/handoff/internal/bench/measure"
)

// emulating is the process that stands in for Cloud Tasks. Its variant "forgetful"
// keeps no record of finished tasks, for runs with millions of them.
type emulating struct{ server *emulator.Server }

func newEmulator(_ context.Context, s setup) (role, reply, error) {
	config := emulator.Config{GRPCAddr: "127.0.0.1:0", NoLimits: true}
	if s.Variant == "forgetful" {
		config.TaskWindow, config.History = -1, -1
	}
	server, err := emulator.New(config)
	if err != nil {
		return nil, reply{}, err
	}
	return &emulating{server}, reply{Addr: server.GRPCAddr()}, nil
}

func (e *emulating) do(_ context.Context, c command) (reply, error) {
	return reply{}, fmt.Errorf("cannot %q", c.Do)
}

func (e *emulating) close() error {
	e.server.Close()
	return nil
}

// sending is the process that the emulator is compared with: an http.Client that
// only sends the request of a small task's dispatch, at a given rate.
type sending struct {
	target string
	client *http.Client
}

const senders = 100 // maximum of requests in flight

func newSender(_ context.Context, s setup) (role, reply, error) {
	return &sending{s.Worker, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: senders}}}, reply{}, nil
}

// do sends c.Tasks requests at equal intervals. The path of each is the time at
// which it is due, in Unix nanoseconds.
func (s *sending) do(ctx context.Context, c command) (reply, error) {
	begun := time.Now()
	return reply{}, measure.Calls(ctx, c.Tasks, senders, c.Rate, func(i int) error {
		due := begun.Add(time.Duration(float64(i) / c.Rate * float64(time.Second)))
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("%s/%d", s.target, due.UnixNano()), strings.NewReader(smallBody))
		if err != nil {
			return err
		}
		for name, value := range map[string]string{
			"X-CloudTasks-QueueName": "q0", "X-CloudTasks-TaskName": "12345678901234567890", "X-CloudTasks-TaskRetryCount": "0",
			"X-CloudTasks-TaskExecutionCount": "0", "X-CloudTasks-TaskETA": fmt.Sprintf("%.6f", float64(due.UnixMicro())/1e6),
			"User-Agent": "Google-Cloud-Tasks", "Accept-Encoding": "gzip, deflate, br",
		} {
			req.Header.Set(name, value)
		}
		resp, err := s.client.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close() // the target sends no body
	})
}

func (s *sending) close() error {
	s.client.CloseIdleConnections()
	return nil
}
