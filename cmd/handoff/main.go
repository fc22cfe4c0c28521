// Command handoff is Cloud Tasks on your machine.
//
//	handoff emulator    run the emulator
//
// handoff COMMAND --help says more.
package main

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// cli holds the commands, each in a file of its own.
type cli struct {
	Emulator emulatorCmd `cmd:"" help:"Run Cloud Tasks on this machine."`
}

func main() {
	// The first signal asks for an orderly end; the second one ends the
	// process, because stop has given the signals back by then.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)

	command := kong.Parse(new(cli),
		kong.Name("handoff"),
		kong.Description("Google Cloud Tasks for development: nothing needs the cloud."),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	command.FatalIfErrorf(command.Run())
}
