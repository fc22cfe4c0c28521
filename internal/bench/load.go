package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// load keeps so many requests in flight, each on its own HTTP/1.1 connection:
// the next is sent when the last is answered. It does no more than it must,
// because it shares the processors with what is measured.
type load struct {
	conns []*conn
}

// loaded is what came of one run of a load.
type loaded struct {
	tasks     int
	wall      time.Duration
	latencies []time.Duration // sorted
}

// openLoad connects, and sends one request over each connection.
func openLoad(ctx context.Context, addr string, inFlight int, tasks *dispatches) (*load, error) {
	l := &load{}
	var dialer net.Dialer
	for range inFlight {
		c, err := dialer.DialContext(ctx, "tcp", addr)
		if err != nil {
			l.close()
			return nil, err
		}
		l.conns = append(l.conns, &conn{Conn: c, answers: bufio.NewReaderSize(c, 1<<10), tasks: tasks})
	}
	if _, err := l.run(ctx, 0, inFlight); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *load) close() {
	for _, c := range l.conns {
		_ = c.Close()
	}
}

// run sends for so long, but no more than most; or, given no length, just most.
// An answer other than 200 is an error.
func (l *load) run(ctx context.Context, length time.Duration, most int) (loaded, error) {
	for _, c := range l.conns {
		c.latencies = c.latencies[:0]
	}
	var left atomic.Int64
	left.Store(int64(most))
	errs := make([]error, len(l.conns))
	begun := time.Now()
	var work sync.WaitGroup
	for i, c := range l.conns {
		work.Go(func() {
			for (length == 0 || time.Since(begun) < length) && left.Add(-1) >= 0 && errs[i] == nil && ctx.Err() == nil {
				errs[i] = c.send()
			}
		})
	}
	work.Wait()
	result := loaded{wall: time.Since(begun)}
	for _, c := range l.conns {
		result.latencies = append(result.latencies, c.latencies...)
	}
	slices.Sort(result.latencies)
	result.tasks = len(result.latencies)
	return result, errors.Join(slices.Concat(errs, []error{ctx.Err()})...)
}

// conn has one request in flight.
type conn struct {
	net.Conn

	tasks     *dispatches
	request   []byte
	answers   *bufio.Reader
	latencies []time.Duration
}

// answerTime is how long a worker may take over an empty handler.
const answerTime = 30 * time.Second

func (c *conn) send() error {
	c.request = c.tasks.appendNext(c.request[:0])
	begun := time.Now()
	if len(c.latencies)%16 == 0 { // setting a deadline costs
		_ = c.SetDeadline(begun.Add(answerTime))
	}
	if _, err := c.Write(c.request); err != nil {
		return err
	}
	status, err := readAnswer(c.answers)
	if err != nil {
		return err
	}
	if status != 200 {
		return fmt.Errorf("answered %d", status)
	}
	c.latencies = append(c.latencies, time.Since(begun))
	return nil
}

var contentLength = []byte("Content-Length: ")

// readAnswer reads one answer as net/http writes it, and says its status.
func readAnswer(r *bufio.Reader) (status int, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 12 {
		return 0, fmt.Errorf("no status line: %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, err
	}
	length := 0
	for {
		if line, err = r.ReadSlice('\n'); err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			_, err = r.Discard(length)
			return status, err
		}
		if value, ok := bytes.CutPrefix(line, contentLength); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, err
			}
		}
	}
}

// percentile of sorted latencies.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)*p/100]
}
