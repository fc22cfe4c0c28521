package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	redrawEvery = 100 * time.Millisecond // on a terminal
	tellEvery   = 5 * time.Second        // elsewhere, in lines
	barWidth    = 30
	atOnce      = 8  // items in progress at the same time
	toldErrors  = 10 // errors printed; further ones are only counted
)

// progress shows the progress of long work: as a bar on a terminal, in lines
// elsewhere.
type progress struct {
	con   *console
	verb  string // "redriven"
	total int

	mu           sync.Mutex
	done, failed int
	shown        time.Time
}

func newProgress(con *console, verb string, total int) *progress {
	return &progress{con: con, verb: verb, total: total, shown: time.Now()}
}

// step counts an item that is done, and calls tell, which may print it.
func (p *progress) step(err error, tell func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.done++
	} else if p.failed++; p.failed <= toldErrors {
		p.clear()
		p.con.sayf("handoff: error: %s", oneLine(err))
	}
	p.clear()
	tell()
	every := tellEvery
	if p.con.redraw {
		every = redrawEvery
	}
	if time.Since(p.shown) >= every {
		p.shown = time.Now()
	} else if !p.con.redraw {
		return
	}
	p.show()
}

func (p *progress) show() {
	count := fmt.Sprintf("%d of %d %s", p.done, p.total, p.verb)
	if p.failed > 0 {
		count += fmt.Sprintf(", %d failed", p.failed)
	}
	if !p.con.redraw {
		p.con.sayf("%s", count)
		return
	}
	full := barWidth * (p.done + p.failed) / max(p.total, 1)
	fmt.Fprintf(p.con.err, "\r\x1b[K[%s%s] %s", strings.Repeat("#", full), strings.Repeat(" ", barWidth-full), count)
}

func (p *progress) clear() {
	if p.con.redraw {
		fmt.Fprint(p.con.err, "\r\x1b[K")
	}
}

// each calls do for every item, several at a time, and shows the progress. It
// continues after failures, and prints them. When ctx ends it starts no more
// items and finishes those in progress: the context of do does not end with ctx.
// tell is called for each finished item, one at a time.
func each[T, R any](ctx context.Context, con *console, verb string, items []T, do func(context.Context, T) (R, error), tell func(T, R, error)) error {
	p := newProgress(con, verb, len(items))
	lasting := context.WithoutCancel(ctx)
	var workers sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, item := range items {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		workers.Go(func() {
			result, err := do(lasting, item)
			p.step(err, func() { tell(item, result, err) })
			<-slots
		})
	}
	workers.Wait()
	return p.end(ctx)
}

// end prints the totals and returns the error of the command.
func (p *progress) end(ctx context.Context) error {
	p.clear()
	sum := fmt.Sprintf("%d of %d %s", p.done, p.total, p.verb)
	if p.failed > 0 {
		sum += fmt.Sprintf(", %d failed", p.failed)
	}
	if left := p.total - p.done - p.failed; left > 0 && ctx.Err() != nil {
		return partial{fmt.Sprintf("%s, %d not begun; the same command goes on with them", sum, left)}
	}
	p.con.sayf("%s", sum)
	if p.failed > 0 {
		return errToldAlready
	}
	return nil
}

// during shows that do is still running: by the seconds elapsed on a terminal,
// by a line every few seconds elsewhere.
func (c *console) during(what string, do func() error) error {
	every := tellEvery
	if c.redraw {
		every = time.Second
	}
	ended := make(chan error, 1)
	start := time.Now()
	go func() { ended <- do() }()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			if c.redraw {
				fmt.Fprint(c.err, "\r\x1b[K")
			}
			return err
		case <-ticker.C:
			line := fmt.Sprintf("%s, %s so far", what, span(time.Since(start)))
			if c.redraw {
				fmt.Fprint(c.err, "\r\x1b[K"+line)
			} else {
				c.sayf("%s", line)
			}
		}
	}
}
