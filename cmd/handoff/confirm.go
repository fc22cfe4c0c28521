package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
)

// yesFlag is the flag of every command that deletes something.
type yesFlag struct {
	Yes bool `help:"Do not ask." short:"y"`
}

// errNotConfirmed is returned if the user did not confirm.
var errNotConfirmed = errors.New("not confirmed; nothing was done")

// mayAsk returns an error if confirm could get no reply. Call it before looking up
// anything for the question.
func (c *console) mayAsk(yes yesFlag) error {
	if !yes.Yes && !c.asks {
		return usagef("this destroys, and there is no terminal to ask on: add --yes if it is meant; nothing was done")
	}
	return nil
}

// confirm asks before something is deleted, unless the flag is set.
func (c *console) confirm(ctx context.Context, yes yesFlag, question string, args ...any) error {
	if err := c.mayAsk(yes); err != nil || yes.Yes {
		return err
	}
	fmt.Fprintf(c.err, "%s [y/N] ", printable(fmt.Sprintf(question, args...)))
	answer := make(chan string, 1)
	go func() { // until the reply, or the end of the process
		line, _ := bufio.NewReader(c.in).ReadString('\n') // without a reply, it is a no
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(c.err)
		return partial{"nothing was done"}
	case a := <-answer:
		if a != "y" && a != "yes" {
			return errNotConfirmed
		}
		return nil
	}
}
