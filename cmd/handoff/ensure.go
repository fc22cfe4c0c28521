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

// changeJSON is the difference between a queue as it is and as it should be.
// Action is create, update or unchanged. Fields have the names of queue files;
// From is left out where there was none.
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

// settingJSON is a setting as queueJSON has it: numbers are numbers, the rest
// is text, and an override that is not set is null.
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

// fileFlag is the file of queues, as admin.Load reads it.
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

// eachIn names a file in each of the errors that are joined in err.
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
	return "Settings that a file leaves out have a default, and are put back to it. Queues that are not in the file are left alone. A new queue may take two minutes until the service finds it, which is waited for."
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
	return fmt.Sprintf("%d of %d changes are made; the same command makes the others", applied, needed)
}

type queuesDiff struct{ fileFlag }

// Help is shown by --help.
func (*queuesDiff) Help() string {
	return "It changes nothing. Exit code 0: the queues are as in the file; 3: they are not; 1: that could not be found out."
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

// tell lists changes, that were to be made or were only looked for.
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
				break // one line says it all
			}
		}
	}
	return out.end()
}
