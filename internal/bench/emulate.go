package main

import (
	"context"
	"fmt"

	"github.com/brillconsulting/handoff/emulator"
)

// emulating is the process that stands in for Cloud Tasks. Queues may be faster
// than the service's, and nothing is kept of tasks that are done.
type emulating struct{ server *emulator.Server }

func newEmulator(context.Context, setup) (role, answer, error) {
	server, err := emulator.New(emulator.Config{
		GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0",
		NoLimits: true, TaskWindow: -1, History: -1,
	})
	if err != nil {
		return nil, answer{}, err
	}
	keys := "http://" + server.HTTPAddr() + "/oauth2/v3/certs"
	return &emulating{server}, answer{Addr: server.GRPCAddr(), Keys: keys}, nil
}

func (e *emulating) carryOut(_ context.Context, o order) (answer, error) {
	return answer{}, fmt.Errorf("cannot %q", o.Do)
}

func (e *emulating) close() error {
	e.server.Close()
	return nil
}
