package main

import (
	"context"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/redisstore"
)

// chosenLetters selects letters by their IDs or by a filter.
type chosenLetters struct {
	letterFilter

	IDs    []string `arg:"" help:"IDs of letters." name:"letter" optional:""`
	All    bool     `help:"All letters."`
	DryRun bool     `help:"Only list the letters that would be changed."`
}

// checkChoice requires IDs or a filter, so that an empty variable in a script
// does not select all letters.
func (c *chosenLetters) checkChoice() error {
	filtered := c.letterFilter != letterFilter{}
	switch {
	case !filtered && !c.All && len(c.IDs) == 0:
		return usagef("which letters? name them, or add a filter such as --kind or --error, or --all")
	case len(c.IDs) > 0 && (filtered || c.All), filtered && c.All:
		return usagef("letters are chosen in more than one way; name them, or filter, or use --all")
	}
	return nil
}

// find returns the IDs of the selected letters, which excludes letters that are
// buried later. In a dry run it prints the letters and returns none.
func (c *chosenLetters) find(ctx context.Context, con *console, dead *deadCmd, store *redisstore.DeadLetters) ([]string, error) {
	if len(c.IDs) > 0 && !c.DryRun {
		return c.IDs, nil
	}
	if !c.DryRun {
		var ids []string
		for letter, err := range c.among(ctx, store) {
			if err != nil {
				return nil, err
			}
			ids = append(ids, letter.ID)
		}
		if len(ids) == 0 {
			con.sayf("there is no such letter; nothing was done")
		}
		return ids, nil
	}
	out, found := dead.listing(con, payloadFlag{}), 0
	add := func(letter handoff.DeadLetter, err error) error {
		if err != nil {
			return out.endWith(err)
		}
		found++
		return out.letter(letter)
	}
	for _, id := range c.IDs {
		if err := add(store.Get(ctx, id)); err != nil {
			return nil, err
		}
	}
	if len(c.IDs) == 0 {
		for letter, err := range c.among(ctx, store) {
			if err := add(letter, err); err != nil {
				return nil, err
			}
		}
	}
	if err := out.end(); err != nil {
		return nil, err
	}
	con.sayf("a dry run: nothing was done; it would be about %s", count(found, "letter"))
	return nil, nil
}

type deadRedrive struct {
	chosenLetters
	placeFlags
	targetFlags

	To     string   `help:"Where to deliver them instead, also those that were enqueued for another target." placeholder:"URL"`
	Header []string `help:"A header to set, such as one with credentials, which letters do not keep. Repeatable." placeholder:"'NAME: VALUE'" sep:"none" short:"H"`
}

// Help is shown by --help.
func (*deadRedrive) Help() string {
	return "Each becomes a fresh task on its queue, due at once, whose attempts count from zero; the letter is marked as redriven when the task exists. " +
		"A task for a handler goes to --target, which must be the one that it was enqueued for, unless --to names another; any other goes to its own URL. " +
		"Redriving a letter twice makes one task, so after an interruption or a failure the same command goes on."
}

// options are those of the redrive. --to is --target, whatever the letters say.
func (c *deadRedrive) options() ([]handoff.Option, error) {
	var options []handoff.Option
	if c.To != "" {
		c.Target = c.To
		options = append(options, handoff.Retarget())
	}
	for _, h := range c.Header {
		name, value, err := cutHeader(h)
		if err != nil {
			return nil, err
		}
		options = append(options, handoff.Header(name, value))
	}
	return options, nil
}

// Run redrives the letters.
func (c *deadRedrive) Run(ctx context.Context, con *console, dead *deadCmd) error {
	if err := c.checkChoice(); err != nil {
		return err
	}
	return dead.letters(ctx, func(store *redisstore.DeadLetters) error {
		if c.DryRun {
			_, err := c.find(ctx, con, dead, store)
			return err
		}
		options, err := c.options()
		if err != nil {
			return err
		}
		target, err := c.target()
		if err != nil {
			return err
		}
		return c.client(ctx, target, func(client *handoff.Client) error {
			ids, err := c.find(ctx, con, dead, store)
			if err != nil || len(ids) == 0 {
				return err
			}
			redrive := func(ctx context.Context, id string) (handoff.Receipt, error) {
				return client.Redrive(ctx, store, id, options...)
			}
			return each(ctx, con, "redriven", ids, redrive, tellResults(con, dead.outputFlags, func(id string, r handoff.Receipt, err error) resultJSON {
				return resultOf(id, r.Name, err)
			}))
		})
	})
}

type deadDelete struct {
	chosenLetters
	yesFlag
}

// Run deletes the letters.
func (c *deadDelete) Run(ctx context.Context, con *console, dead *deadCmd) error {
	if err := c.checkChoice(); err != nil {
		return err
	}
	if !c.DryRun {
		if err := con.mayAsk(c.yesFlag); err != nil {
			return err
		}
	}
	return dead.letters(ctx, func(store *redisstore.DeadLetters) error {
		ids, err := c.find(ctx, con, dead, store)
		if err != nil || len(ids) == 0 {
			return err
		}
		if err := con.confirm(ctx, c.yesFlag, "Delete %s for good, payloads and all?", count(len(ids), "dead letter")); err != nil {
			return err
		}
		del := func(ctx context.Context, id string) (struct{}, error) { return struct{}{}, store.Delete(ctx, id) }
		return each(ctx, con, "deleted", ids, del, tellResults(con, dead.outputFlags, func(id string, _ struct{}, err error) resultJSON {
			return resultOf(id, "", err)
		}))
	})
}
