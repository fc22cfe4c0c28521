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
	atOnce      = 8  // how many of many are worked on at a time
	toldErrors  = 10 // of many that failed; the rest is counted
)

// progress shows how far long work is: as a bar on a terminal, in lines
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

// step counts one that is over, and lets tell write about it.
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

// each does something to many items, several at a time, and shows how far it
// is. It goes on after failures and reports them. When ctx ends it begins no
// more, and finishes those that it has begun: do gets a context that lasts.
// tell is called for one item at a time, when it is over.
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

// end sums up.
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

// during shows that something takes its time while do runs: seconds that
// pass on a terminal, a line now and then elsewhere.
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
