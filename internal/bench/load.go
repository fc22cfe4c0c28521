package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/brillconsulting/handoff/internal/wire"
)

// dispatches builds the requests that Cloud Tasks would send for tasks enqueued
// with handoff. Each request is a new task; the tokens are used in turn.
type dispatches struct {
	url    string
	header http.Header // common to all requests
	body   string
	tokens []string
	next   *atomic.Int64 // shared by all runs of a worker, so that no task is sent to it twice
}

func newDispatches(addr, body string, tokens []string, next *atomic.Int64) *dispatches {
	d := &dispatches{url: "http://" + addr + "/tasks/" + kind, body: body, tokens: tokens, next: next, header: http.Header{
		"User-Agent": {wire.UserAgentHTTP}, "Content-Type": {"application/json"}, "Accept-Encoding": {"gzip, deflate, br"},
	}}
	now := time.Now()
	wire.HTTP.Write(d.header, wire.Dispatch{Queue: queue, Task: "0", ETA: now})
	wire.Stamp{Enqueued: now, Expires: now.Add(24 * time.Hour), MaxAttempts: 5}.Write(d.header.Set)
	return d
}

func (d *dispatches) request(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url, strings.NewReader(d.body))
	if err != nil {
		return nil, err
	}
	n := d.next.Add(1)
	req.Header = d.header.Clone()
	req.Header.Set(wire.HTTP.TaskName, fmt.Sprintf("%020d", n)) // as long as the service's names
	req.Header.Set(wire.HeaderID, fmt.Sprintf("%026d", n))      // and handoff's IDs
	req.Header.Set("Authorization", "Bearer "+d.tokens[n%int64(len(d.tokens))])
	return req, nil
}

// loaded is the result of one run under load.
type loaded struct {
	tasks     int
	wall      time.Duration
	latencies []time.Duration // sorted
}

// deliver keeps inFlight requests in flight: each response is followed by the next
// request. It stops after length, or when it has sent limit requests. A status
// other than 200 is an error.
func (d *dispatches) deliver(ctx context.Context, client *http.Client, inFlight int, length time.Duration, limit int) (loaded, error) {
	ctx, cancel := context.WithTimeout(ctx, length+30*time.Second)
	defer cancel()
	var left atomic.Int64
	left.Store(int64(limit))
	errs, latencies := make([]error, inFlight), make([][]time.Duration, inFlight)
	begun := time.Now()
	var work sync.WaitGroup
	for i := range inFlight {
		work.Go(func() {
			for time.Since(begun) < length && left.Add(-1) >= 0 && errs[i] == nil {
				sent := time.Now()
				errs[i] = d.one(ctx, client)
				latencies[i] = append(latencies[i], time.Since(sent))
			}
		})
	}
	work.Wait()
	result := loaded{wall: time.Since(begun), latencies: slices.Concat(latencies...)}
	slices.Sort(result.latencies)
	result.tasks = len(result.latencies)
	return result, errors.Join(errs...)
}

func (d *dispatches) one(ctx context.Context, client *http.Client) error {
	req, err := d.request(ctx)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return errors.Join(err, resp.Body.Close())
}

// percentile returns the p-th percentile of sorted latencies.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)*p/100]
}
