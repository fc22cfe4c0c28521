package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/brillconsulting/handoff/emulator"
)

// connect returns the client options for Cloud Tasks, and a function that stops
// it. If the environment names an emulator both are nil. Otherwise connect
// starts one in a process of its own, so that its memory is not counted as the
// import's.
func connect(ctx context.Context) (options []option.ClientOption, stop func(), err error) {
	if os.Getenv("CLOUD_TASKS_EMULATOR_HOST") != "" {
		return nil, nil, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	child := exec.CommandContext(context.WithoutCancel(ctx), self, "-serve")
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := child.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() {
		_ = in.Close()
		_ = child.Wait()
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("the emulator did not start: %w", err)
	}
	return []option.ClientOption{
		option.WithEndpoint(strings.TrimSpace(addr)),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}, stop, nil
}

// serveEmulator prints its address, and ends when its standard input does, so
// that it cannot outlive the import. It ignores Ctrl-C, which reaches both
// processes, because the import still needs it then.
func serveEmulator() error {
	signal.Ignore(os.Interrupt)
	srv, err := emulator.New(emulator.Config{GRPCAddr: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	defer srv.Close()
	fmt.Fprintln(os.Stdout, srv.GRPCAddr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
