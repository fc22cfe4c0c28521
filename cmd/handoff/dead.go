package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/redisstore"
)

type deadCmd struct {
	redisFlags
	outputFlags

	List    deadList    `cmd:"" help:"List dead letters, newest first."`
	Show    deadShow    `cmd:"" help:"Show everything about a dead letter."`
	Redrive deadRedrive `cmd:"" help:"Enqueue the work of dead letters again."`
	Delete  deadDelete  `cmd:"" help:"Delete dead letters."`
}

// letterFilter selects letters. A letter must match every flag that is set.
type letterFilter struct {
	Kind      string        `help:"Only letters of this kind." placeholder:"KIND"`
	Queue     string        `help:"Only letters of this queue." placeholder:"ID"`
	Error     string        `help:"Only letters whose last error has this in it." placeholder:"TEXT"`
	OlderThan time.Duration `help:"Only letters buried longer ago than that, such as 24h." placeholder:"DURATION"`
	NewerThan time.Duration `help:"Only letters buried since." placeholder:"DURATION"`
}

func (f letterFilter) fits(l *handoff.DeadLetter, now time.Time) bool {
	return (f.Kind == "" || l.Kind == f.Kind) &&
		(f.Queue == "" || l.Queue == f.Queue) &&
		strings.Contains(l.LastErr, f.Error) &&
		(f.OlderThan == 0 || now.Sub(l.BuriedAt) > f.OlderThan) &&
		!f.tooOld(l, now)
}

func (f letterFilter) tooOld(l *handoff.DeadLetter, now time.Time) bool {
	return f.NewerThan != 0 && now.Sub(l.BuriedAt) > f.NewerThan
}

// among yields the letters that match, newest first.
func (f letterFilter) among(ctx context.Context, store *redisstore.DeadLetters) iter.Seq2[handoff.DeadLetter, error] {
	return func(yield func(handoff.DeadLetter, error) bool) {
		now := time.Now()
		query := handoff.DeadLetterQuery{Kind: f.Kind}
		for {
			page, err := store.List(ctx, query)
			if err != nil {
				yield(handoff.DeadLetter{}, err)
				return
			}
			for i := range page.Letters {
				letter := &page.Letters[i]
				if f.tooOld(letter, now) {
					return // and so is all that follows
				}
				if f.fits(letter, now) && !yield(*letter, nil) {
					return
				}
			}
			if query.Cursor = page.Next; query.Cursor == "" {
				return
			}
		}
	}
}

// letterJSON is a dead letter. Header and Payload are set only with --payload. The
// first of Reasons decided.
type letterJSON struct {
	ID        string              `json:"id"`
	Kind      string              `json:"kind,omitempty"`
	Queue     string              `json:"queue"`
	Task      string              `json:"task"`
	HandoffID string              `json:"handoff_id,omitempty"`
	Target    string              `json:"target"`
	Reasons   []handoff.Reason    `json:"reasons"`
	LastError string              `json:"last_error,omitempty"`
	Attempts  int                 `json:"attempts"`
	Snoozes   int                 `json:"snoozes"`
	FirstAt   *time.Time          `json:"first_at,omitempty"`
	BuriedAt  *time.Time          `json:"buried_at,omitempty"`
	Redrives  int                 `json:"redrives,omitempty"`
	Header    map[string][]string `json:"header,omitempty"`
	Payload   []byte              `json:"payload,omitempty"`
}

func jsonOfLetter(l handoff.DeadLetter, show payloadFlag) letterJSON {
	out := letterJSON{
		ID: l.ID, Kind: l.Kind, Queue: l.Queue, Task: l.Task, HandoffID: l.HandoffID, Target: l.Target,
		Reasons: l.Reasons, LastError: l.LastErr, Attempts: l.Attempts, Snoozes: l.Snoozes,
		FirstAt: stamp(l.FirstAt), BuriedAt: stamp(l.BuriedAt), Redrives: l.Redrives,
	}
	if show.Payload {
		out.Header, out.Payload = l.Header, l.Payload
	}
	return out
}

// letters lists letters as they come.
type letters struct {
	*listing
	show payloadFlag
	now  time.Time
}

func (c *deadCmd) listing(con *console, show payloadFlag) letters {
	return letters{con.list(c.outputFlags, "LETTER", "KIND", "QUEUE", "BURIED", "ATTEMPTS", "REASON", "LAST ERROR"), show, time.Now()}
}

func (l letters) letter(of handoff.DeadLetter) error {
	return l.add(jsonOfLetter(of, l.show), text(of.ID), text(of.Kind), text(of.Queue), text(age(of.BuriedAt, l.now)),
		number(of.Attempts), cell{reasons(of.Reasons), red}, text(cut(of.LastErr)))
}

func reasons(all []handoff.Reason) string {
	words := make([]string, len(all))
	for i, r := range all {
		words[i] = string(r)
	}
	return strings.Join(words, ", ")
}

// cut keeps an error on its line of the table; dead show has all of it.
func cut(s string) string {
	const most = 100
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}

type deadList struct {
	letterFilter
	payloadFlag

	Limit int `help:"List at most this many; 0 lists all." placeholder:"N"`
}

// Run lists the letters.
func (c *deadList) Run(ctx context.Context, con *console, dead *deadCmd) error {
	return dead.open(ctx, func(rdb redis.UniversalClient) error {
		store := redisstore.NewDeadLetters(rdb, &redisstore.DeadLetterOptions{Prefix: dead.Prefix})
		out, listed := dead.listing(con, c.payloadFlag), 0
		for letter, err := range c.among(ctx, store) {
			if err != nil {
				return out.endWith(err)
			}
			if err := out.letter(letter); err != nil {
				return err
			}
			if listed++; listed == c.Limit {
				break
			}
		}
		if listed == 0 && (c.letterFilter == letterFilter{}) {
			if others := otherPrefixes(ctx, rdb, dead.Prefix); others != "" {
				con.sayf("no dead letter is below the prefix %s; elsewhere: %s", cmp.Or(dead.Prefix, defaultPrefix), others)
			}
		}
		return out.end()
	})
}

type deadShow struct {
	payloadFlag

	ID string `arg:"" help:"ID of the letter."`
}

// Run shows the letter.
func (c *deadShow) Run(ctx context.Context, con *console, dead *deadCmd) error {
	return dead.letters(ctx, func(store *redisstore.DeadLetters) error {
		l, err := store.Get(ctx, c.ID)
		if errors.Is(err, handoff.ErrNoDeadLetter) {
			return fmt.Errorf("%w; it was redriven, deleted or is too old, or --redis or --prefix is not that of the workers", err)
		}
		if err != nil {
			return err
		}
		return con.describe(dead.outputFlags, jsonOfLetter(l, c.payloadFlag), letterFacts(l, c.payloadFlag, time.Now())...)
	})
}

func letterFacts(l handoff.DeadLetter, show payloadFlag, now time.Time) [][]cell {
	facts := [][]cell{
		fact("letter", l.ID),
		fact("kind", l.Kind),
		fact("queue", l.Queue),
		fact("task", l.Task),
		fact("handoff ID", l.HandoffID),
		fact("target", l.Target),
		{text("reason"), {reasons(l.Reasons), red}},
		fact("last error", l.LastErr),
		fact("attempts", l.Attempts),
		fact("snoozes", l.Snoozes),
		fact("first run", moment(l.FirstAt, now)),
		fact("buried", moment(l.BuriedAt, now)),
	}
	if l.Redrives > 0 {
		facts = append(facts, fact("redrives", l.Redrives))
	}
	if show.Payload {
		facts = append(facts, contentFacts(l.Header, l.Payload)...)
	}
	return facts
}
