package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
)

// usageError is a mistake in the command line: nothing was done.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// invalid makes the error of a call a mistake in the command line if what the call
// was given cannot be: the library refused it without a request, or the service did.
func invalid(ctx context.Context, err error) error {
	_, answered := status.FromError(err)
	switch {
	case err == nil || ctx.Err() != nil || errors.Is(err, handoff.ErrNotSent) || errors.Is(err, handoff.ErrUnknown):
		return err
	case !answered || errors.Is(err, admin.ErrInvalid) || status.Code(err) == codes.InvalidArgument:
		return usageError{err}
	}
	return err
}

// errDiffers is the error of queues diff if there are differences, which its
// output has shown.
var errDiffers = errors.New("the queues differ")

// errToldAlready is a failure whose errors were printed to stderr.
var errToldAlready = errors.New("failed")

// exitCode is the end of another program, which has told its errors itself.
type exitCode int

func (e exitCode) Error() string { return "exit code " + strconv.Itoa(int(e)) }

// fail prints an error, one line for each of its joined errors, and returns the
// exit code. The codes are documented in main.go.
func (c *console) fail(ctx context.Context, err error) int {
	var stopped interruption
	var code exitCode
	switch {
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, errDiffers):
		return 3
	case errors.As(context.Cause(ctx), &stopped):
		c.sayf("handoff: interrupted%s", progressOf(err))
		return 128 + int(stopped.signal)
	case errors.As(err, new(usageError)):
		c.sayLines(err)
		return 2
	case !errors.Is(err, errToldAlready):
		c.sayLines(err)
	}
	return 1
}

// sayLines tells an error. errors.Join puts each that it joins on a line.
func (c *console) sayLines(err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		c.sayf("handoff: error: %s", line)
	}
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// partial is the error of interrupted work. done says how far it got.
type partial struct{ done string }

func (p partial) Error() string { return p.done }

func progressOf(err error) string {
	if p, ok := errors.AsType[partial](err); ok {
		return ": " + p.done
	}
	return ""
}
