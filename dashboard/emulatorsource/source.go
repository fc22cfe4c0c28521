// Package emulatorsource shows an emulator of this process in a dashboard: every
// dispatch, how tasks ended, charts, and a search through whole queues.
//
//	source, err := emulatorsource.New(srv)
//	board, err := dashboard.New(dashboard.Config{Source: source, Loopback: true})
//	go http.ListenAndServe("127.0.0.1:8080", board)
//
// The command handoff emulator --dashboard serves it. It is a separate package so
// that a dashboard in production does not import the emulator.
package emulatorsource

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/emulator"
)

// Source is a [dashboard.Observer] of an emulator. It has the queues of all
// projects and locations. It is safe for concurrent use. Close it when done, before
// the emulator.
type Source struct {
	srv *emulator.Server

	mu     sync.Mutex
	closed bool
	places map[place]*dashboard.AdminSource
	admins []*admin.Admin
}

type place struct{ project, location string }

var _ dashboard.Observer = (*Source)(nil)

// New returns a source of srv.
func New(srv *emulator.Server) (*Source, error) {
	if srv == nil {
		return nil, errors.New("emulatorsource: the server is nil; emulator.New makes one")
	}
	return &Source{srv: srv, places: make(map[place]*dashboard.AdminSource)}, nil
}

// Close closes the connections to the emulator.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for _, a := range s.admins {
		errs = append(errs, a.Close())
	}
	s.admins, s.places = nil, nil
	return errors.Join(errs...)
}

// About implements [dashboard.Source].
func (s *Source) About() dashboard.About {
	return dashboard.About{
		Name:    "Emulator",
		Limits:  "The emulator keeps the last hundred dispatches of each task. Of the tasks that have ended it keeps the latest of each queue, and up to 16 MiB of their headers and payloads. Charts go back five minutes.",
		Refresh: time.Second,
	}
}

// Queues implements [dashboard.Source].
func (s *Source) Queues(ctx context.Context) ([]admin.Queue, error) {
	var all []admin.Queue
	var last place
	for _, q := range s.srv.Queues() { // in the order of their names
		p, ok := placeOf(q.GetName())
		if !ok || p == last {
			continue
		}
		last = p
		source, err := s.at(p)
		if err != nil {
			return nil, err
		}
		queues, err := source.Queues(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, queues...)
	}
	return all, nil
}

// Queue implements [dashboard.Source].
func (s *Source) Queue(ctx context.Context, queue string) (admin.Queue, error) {
	source, err := s.of(queue)
	if err != nil {
		return admin.Queue{}, err
	}
	return source.Queue(ctx, queue)
}

// Tasks implements [dashboard.Source].
func (s *Source) Tasks(ctx context.Context, query dashboard.TaskQuery) (dashboard.TaskPage, error) {
	source, err := s.of(query.Queue)
	if err != nil {
		return dashboard.TaskPage{}, err
	}
	return source.Tasks(ctx, query)
}

// Task implements [dashboard.Source].
func (s *Source) Task(ctx context.Context, task string, view admin.View) (admin.Task, error) {
	source, err := s.of(task)
	if err != nil {
		return admin.Task{}, err
	}
	return source.Task(ctx, task, view)
}

// Pause implements [dashboard.Source].
func (s *Source) Pause(ctx context.Context, queue string) error {
	return s.do(ctx, queue, (*dashboard.AdminSource).Pause)
}

// Resume implements [dashboard.Source].
func (s *Source) Resume(ctx context.Context, queue string) error {
	return s.do(ctx, queue, (*dashboard.AdminSource).Resume)
}

// Purge implements [dashboard.Source].
func (s *Source) Purge(ctx context.Context, queue string) error {
	return s.do(ctx, queue, (*dashboard.AdminSource).Purge)
}

// RunNow implements [dashboard.Source].
func (s *Source) RunNow(ctx context.Context, task string) error {
	return s.do(ctx, task, (*dashboard.AdminSource).RunNow)
}

// Delete implements [dashboard.Source].
func (s *Source) Delete(ctx context.Context, task string) error {
	return s.do(ctx, task, (*dashboard.AdminSource).Delete)
}

func (s *Source) do(ctx context.Context, name string, change func(*dashboard.AdminSource, context.Context, string) error) error {
	source, err := s.of(name)
	if err != nil {
		return err
	}
	return change(source, ctx, name)
}

// of returns the source of the location that a queue or a task is in.
func (s *Source) of(name string) (*dashboard.AdminSource, error) {
	p, ok := placeOf(name)
	if !ok {
		return nil, missing(name)
	}
	return s.at(p)
}

// at returns the source of a location. It uses the emulator's API as any client
// does, so that the dashboard works the same with Cloud Tasks.
func (s *Source) at(p place) (*dashboard.AdminSource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if source := s.places[p]; source != nil {
		return source, nil
	}
	if s.closed {
		return nil, errors.New("emulatorsource: closed")
	}
	if !s.known(p) {
		return nil, missing("projects/" + p.project + "/locations/" + p.location)
	}
	a, err := admin.New(context.Background(), admin.Config{Project: p.project, Location: p.location, Options: s.srv.ClientOptions()})
	if err != nil {
		return nil, fmt.Errorf("emulatorsource: %w", err)
	}
	source, err := dashboard.NewAdminSource(dashboard.AdminSourceConfig{Admin: a, Unmetered: true})
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	s.admins = append(s.admins, a)
	s.places[p] = source
	return source, nil
}

// known returns an error if there is no such queue. Without it, each location that
// a URL names would open a connection.
func (s *Source) known(p place) bool {
	for _, q := range s.srv.Queues() {
		if of, ok := placeOf(q.GetName()); ok && of == p {
			return true
		}
	}
	return false
}

func placeOf(name string) (place, bool) {
	parts := strings.Split(name, "/")
	if len(parts) < 6 || parts[0] != "projects" || parts[2] != "locations" || parts[4] != "queues" {
		return place{}, false
	}
	return place{parts[1], parts[3]}, true
}

func missing(name string) error {
	return fmt.Errorf("emulatorsource: %q: %w", name, admin.ErrNotFound)
}
