package dashboard

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/brillconsulting/handoff/admin"
)

// AdminSourceConfig configures an [AdminSource]. Admin is required.
type AdminSourceConfig struct {
	_ [0]func()

	// Admin is the control plane of the location to show.
	Admin *admin.Admin

	// ListsPerMinute is the maximum number of list calls a minute, 1 to 600. The
	// service allows 600 a minute to a project, shared with its other programs
	// (https://cloud.google.com/tasks/docs/quotas). Defaults to 120.
	ListsPerMinute int

	// Unmetered is for an emulator, which has no quotas. A search then reads the
	// whole queue, and nothing is cached.
	Unmetered bool
}

// The limits that keep an AdminSource within its budget.
const (
	defaultLists = 120
	searchPages  = 5               // pages that one request of a search reads
	searchPage   = 1000            // tasks of such a page, the service's maximum
	remembered   = 8 * time.Second // less than a refresh, so that each refresh reads anew
	metered      = 10 * time.Second
	unmetered    = 2 * time.Second
)

// AdminSource is a [Source] that reads the API of Cloud Tasks, within a budget
// of list calls. It shows what the API returns: counts, and the first and the
// last dispatch of tasks that have not ended. A request searches at most 5,000
// tasks. It is safe for concurrent use.
type AdminSource struct {
	admin  *admin.Admin
	config AdminSourceConfig
	parent string // projects/P/locations/L
	budget *budget
	queues memo[[]admin.Queue]
	pages  memo[admin.TaskPage]

	plainUntil atomic.Int64 // Unix time until which v2beta3 is not called
}

var _ Source = (*AdminSource)(nil)

// NewAdminSource returns a source. The error reports every problem of config. The
// caller must close config.Admin.
func NewAdminSource(config AdminSourceConfig) (*AdminSource, error) {
	var errs []error
	if config.Admin == nil {
		errs = append(errs, errors.New("dashboard: AdminSourceConfig.Admin is nil; make one by admin.New"))
	}
	if n := config.ListsPerMinute; n < 0 || n > 600 {
		errs = append(errs, fmt.Errorf("dashboard: AdminSourceConfig.ListsPerMinute is %d; it must be 1 to 600, or 0 for %d", n, defaultLists))
	}
	if config.Unmetered && config.ListsPerMinute != 0 {
		errs = append(errs, errors.New("dashboard: AdminSourceConfig.Unmetered and ListsPerMinute are both set; set one"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if config.ListsPerMinute == 0 && !config.Unmetered {
		config.ListsPerMinute = defaultLists
	}
	s := &AdminSource{admin: config.Admin, config: config, budget: newBudget(config.ListsPerMinute)}
	s.parent, _, _ = strings.Cut(config.Admin.Tasks().Name("q", "t"), "/queues/")
	if !config.Unmetered {
		s.queues.ttl, s.pages.ttl = remembered, remembered
	}
	return s, nil
}

// About implements [Source].
func (s *AdminSource) About() About {
	project, location, _ := strings.Cut(strings.TrimPrefix(s.parent, "projects/"), "/locations/")
	about := About{
		Name:    fmt.Sprintf("Cloud Tasks, %s in %s", project, location),
		Limits:  "Cloud Tasks keeps counts and the first and the last dispatch of a task until it ends, and nothing after that.",
		Refresh: metered,
	}
	if s.config.Unmetered {
		about.Refresh = unmetered
		return about
	}
	about.Limits += fmt.Sprintf(" Pages are read again every %s, and a search looks at %s tasks on each request, within %d of the list calls that the service allows a project in a minute.",
		briefly(metered), integer(searchPages*searchPage), s.config.ListsPerMinute)
	return about
}

// Queues implements [Source]. It has statistics if the server supports v2beta3.
func (s *AdminSource) Queues(ctx context.Context) ([]admin.Queue, error) {
	return s.queues.get("", func() ([]admin.Queue, error) {
		return statistics(s, func(stats bool) ([]admin.Queue, error) {
			if err := s.budget.take(); err != nil {
				return nil, err
			}
			var all []admin.Queue
			for q, err := range s.admin.Queues().List(ctx, admin.ListQueues{Stats: stats}) {
				if err != nil {
					return nil, err
				}
				all = append(all, q)
			}
			return all, nil
		})
	})
}

// Queue implements [Source].
func (s *AdminSource) Queue(ctx context.Context, queue string) (admin.Queue, error) {
	id, err := s.queueID(queue)
	if err != nil {
		return admin.Queue{}, err
	}
	return statistics(s, func(stats bool) (admin.Queue, error) {
		if stats {
			return s.admin.Queues().Inspect(ctx, id)
		}
		return s.admin.Queues().Get(ctx, id)
	})
}

// statistics calls v2beta3, which has statistics, and v2 if that fails: an
// emulator may lack v2beta3, or the caller the permission. After a failure it
// calls only v2 for a minute.
func statistics[T any](s *AdminSource, call func(stats bool) (T, error)) (T, error) {
	if time.Now().Unix() < s.plainUntil.Load() {
		return call(false)
	}
	full, err := call(true)
	if err == nil || errors.Is(err, ErrBudget) || errors.Is(err, admin.ErrNotFound) {
		return full, err
	}
	plain, plainErr := call(false)
	if plainErr != nil {
		return full, err
	}
	s.plainUntil.Store(time.Now().Add(time.Minute).Unix())
	return plain, nil
}

// Tasks implements [Source]. It makes one list call, or up to five if the query is
// filtered.
func (s *AdminSource) Tasks(ctx context.Context, query TaskQuery) (TaskPage, error) {
	id, err := s.queueID(query.Queue)
	if err != nil {
		return TaskPage{}, err
	}
	list := func(token string, size int) (admin.TaskPage, error) {
		return s.pages.get(fmt.Sprint(id, " ", size, " ", token), func() (admin.TaskPage, error) {
			if err := s.budget.take(); err != nil {
				return admin.TaskPage{}, err
			}
			return s.admin.Tasks().Page(ctx, id, admin.Basic, size, token)
		})
	}
	if !query.Filtered() {
		page, err := list(query.Cursor, query.Limit)
		return TaskPage{Tasks: page.Tasks, Next: page.Next}, err
	}
	return search(query, s.config.Unmetered, list)
}

// Task implements [Source].
func (s *AdminSource) Task(ctx context.Context, task string, view admin.View) (admin.Task, error) {
	if err := s.holds(task); err != nil {
		return admin.Task{}, err
	}
	return s.admin.Tasks().Get(ctx, task, view)
}

// Pause implements [Source].
func (s *AdminSource) Pause(ctx context.Context, queue string) error {
	return s.change(queue, func(id string) error {
		_, err := s.admin.Queues().Pause(ctx, id)
		return err
	})
}

// Resume implements [Source].
func (s *AdminSource) Resume(ctx context.Context, queue string) error {
	return s.change(queue, func(id string) error {
		_, err := s.admin.Queues().Resume(ctx, id)
		return err
	})
}

// Purge implements [Source].
func (s *AdminSource) Purge(ctx context.Context, queue string) error {
	return s.change(queue, func(id string) error {
		_, err := s.admin.Queues().Purge(ctx, id)
		return err
	})
}

// RunNow implements [Source].
func (s *AdminSource) RunNow(ctx context.Context, task string) error {
	if err := s.holds(task); err != nil {
		return err
	}
	defer s.pages.forget()
	_, err := s.admin.Tasks().RunNow(ctx, task)
	return err
}

// Delete implements [Source].
func (s *AdminSource) Delete(ctx context.Context, task string) error {
	if err := s.holds(task); err != nil {
		return err
	}
	defer s.pages.forget()
	return s.admin.Tasks().Delete(ctx, task)
}

func (s *AdminSource) change(queue string, do func(id string) error) error {
	id, err := s.queueID(queue)
	if err != nil {
		return err
	}
	defer s.queues.forget()
	defer s.pages.forget()
	return do(id)
}

// queueID returns the ID of a queue, or an error if it is of another location.
func (s *AdminSource) queueID(name string) (string, error) {
	id, ok := strings.CutPrefix(name, s.parent+"/queues/")
	if !ok || id == "" || strings.Contains(id, "/") {
		return "", fmt.Errorf("dashboard: queue %q: %w; this source has only the queues of %s", name, admin.ErrNotFound, s.parent)
	}
	return id, nil
}

// holds returns an error if a task is of another location. A link must not make
// the source use its credentials there.
func (s *AdminSource) holds(task string) error {
	queue, _, _ := strings.Cut(task, "/tasks/")
	_, err := s.queueID(queue)
	return err
}
