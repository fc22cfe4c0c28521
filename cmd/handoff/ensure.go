package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	"github.com/brillconsulting/handoff/admin"
)

// changeJSON is the difference between a queue and its configuration. Action is
// create, update or unchanged. Fields have the names of the keys in queue files.
// From is omitted if there was no value.
type changeJSON struct {
	Queue   string      `json:"queue"`
	Action  string      `json:"action"`
	Applied bool        `json:"applied"`
	Fields  []fieldJSON `json:"fields,omitempty"`
}

type fieldJSON struct {
	Field string `json:"field"`
	From  any    `json:"from,omitempty"`
	To    any    `json:"to"`
}

func jsonOfChange(c admin.Change) changeJSON {
	out := changeJSON{Queue: c.Queue, Action: c.Action.String(), Applied: c.Applied}
	for _, f := range c.Fields {
		out.Fields = append(out.Fields, fieldJSON{f.Field, settingJSON(f.Field, f.From), settingJSON(f.Field, f.To)})
	}
	return out
}

// settingJSON returns the value of a setting in the form of queueJSON: a number,
// text, or null for an override that is not set.
func settingJSON(key string, v any) any {
	if n, ok := v.(int); ok && key == "max_doublings" {
		return doublings(n)
	}
	if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer && p.IsNil() {
		return nil
	}
	switch v := v.(type) {
	case time.Duration:
		return v.String()
	case fmt.Stringer:
		return v.String()
	}
	return v
}

// fileFlag is the flag for a file of queues, in the format of admin.Load.
type fileFlag struct {
	File string `help:"The queues, in YAML; - reads stdin." placeholder:"FILE" required:"" short:"f"`
}

func (f fileFlag) load(con *console) ([]admin.QueueConfig, error) {
	in := con.in
	if f.File != "-" {
		file, err := os.Open(f.File)
		if err != nil {
			return nil, usageError{err}
		}
		defer file.Close()
		in = file
	}
	configs, err := admin.Load(in)
	if err != nil {
		return nil, usageError{eachIn(f.File, err)}
	}
	return configs, nil
}

// eachIn adds the name of a file to each of the errors that err joins.
func eachIn(file string, err error) error {
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s: %w", file, err)
	}
	var errs []error
	for _, err := range many.Unwrap() {
		errs = append(errs, fmt.Errorf("%s: %w", file, err))
	}
	return errors.Join(errs...)
}

type queuesEnsure struct{ fileFlag }

// Help is shown by --help.
func (*queuesEnsure) Help() string {
	return "Settings that are not in the file are reset to their defaults. Queues that are not in the file are not changed. After creating a queue, the command waits until the service finds it, which may take two minutes."
}

// Run ensures the queues.
func (c *queuesEnsure) Run(ctx context.Context, con *console, queues *queuesCmd) error {
	configs, err := c.load(con)
	if err != nil {
		return err
	}
	return queues.admin(ctx, func(a *admin.Admin) error {
		var changes []admin.Change
		err := con.during("ensuring "+count(len(configs), "queue"), func() (err error) {
			changes, err = a.Queues().EnsureAll(ctx, configs)
			return err
		})
		if told := queues.tell(con, changes, true); told != nil {
			return told
		}
		if err != nil && ctx.Err() != nil {
			return partial{appliedOf(changes)}
		}
		return err
	})
}

func appliedOf(changes []admin.Change) string {
	applied, needed := 0, 0
	for _, c := range changes {
		if c.Action != admin.Unchanged {
			needed++
		}
		if c.Applied {
			applied++
		}
	}
	if applied == 0 {
		return "nothing was changed"
	}
	return fmt.Sprintf("%d of %d changes were made; run the same command again for the rest", applied, needed)
}

type queuesDiff struct{ fileFlag }

// Help is shown by --help.
func (*queuesDiff) Help() string {
	return "It changes nothing. Exit code 0: the queues match the file; 3: they differ; 1: the queues could not be read."
}

// Run shows the differences.
func (c *queuesDiff) Run(ctx context.Context, con *console, queues *queuesCmd) error {
	configs, err := c.load(con)
	if err != nil {
		return err
	}
	return queues.admin(ctx, func(a *admin.Admin) error {
		changes, err := a.Queues().Diff(ctx, configs)
		if err != nil {
			return err
		}
		if err := queues.tell(con, changes, false); err != nil {
			return err
		}
		for _, c := range changes {
			if c.Action != admin.Unchanged {
				return errDiffers
			}
		}
		return nil
	})
}

// tell lists changes. made reports whether they were to be applied, not only
// compared.
func (c *queuesCmd) tell(con *console, changes []admin.Change, made bool) error {
	out := con.list(c.outputFlags, "QUEUE", "ACTION", "CHANGE")
	for _, change := range changes {
		var value any = jsonOfChange(change)
		action := cell{change.Action.String(), yellow}
		switch {
		case change.Action == admin.Unchanged:
			action.colour = plain
		case change.Applied:
			action = cell{action.text + "d", green}
		case made:
			action = cell{action.text + ": not done", red}
		}
		rows := [][]cell{{text(change.Queue), action}}
		for i, field := range change.Fields {
			if i > 0 {
				rows = append(rows, []cell{{}, {}})
			}
			rows[i] = append(rows[i], text(field.String()))
		}
		for _, row := range rows {
			if err := out.add(value, row...); err != nil {
				return err
			}
			if out.json != nil {
				break // the one object has all fields
			}
		}
	}
	return out.end()
}
