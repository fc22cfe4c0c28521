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

// AdminSourceConfig says what an [AdminSource] reads. Admin is required.
type AdminSourceConfig struct {
	_ [0]func()

	// Admin is the control plane of the location to show.
	Admin *admin.Admin

	// ListsPerMinute is how many list calls a minute the source makes at most.
	// The service allows 600 to a project
	// (https://cloud.google.com/tasks/docs/quotas), which other programs use too.
	// Defaults to 120.
	ListsPerMinute int

	// Unmetered is for an emulator, which has no quotas: a search goes through
	// the whole queue, and nothing is remembered between two looks.
	Unmetered bool
}

// What an AdminSource does to stay within its budget.
const (
	defaultLists = 120
	searchPages  = 5               // of a search, on each request
	searchPage   = 1000            // tasks of one of them, the most there is
	remembered   = 8 * time.Second // less than a refresh, so that each one sees news
	metered      = 10 * time.Second
	unmetered    = 2 * time.Second
)

// AdminSource is a [Source] that reads the API of Cloud Tasks, within a budget
// of list calls. It shows what the API tells: counts, and the first and the
// last attempt of tasks that have not ended. It searches 5,000 tasks on each
// request. It is safe for concurrent use.
type AdminSource struct {
	admin  *admin.Admin
	config AdminSourceConfig
	parent string // projects/P/locations/L
	budget *budget
	queues memo[[]admin.Queue]
	pages  memo[admin.TaskPage]

	plainUntil atomic.Int64 // Unix time; until then v2beta3 is not asked
}

var _ Source = (*AdminSource)(nil)

// NewAdminSource checks the whole configuration and returns every problem at
// once. Closing config.Admin stays with the caller.
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
		Limits:  "Cloud Tasks keeps counts and the first and last attempt of a task until it ends, and nothing after that.",
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

// Queues implements [Source]. Statistics come from v2beta3, where there is one.
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

// statistics asks v2beta3, and v2 if that fails: an emulator may not have the
// one, a caller not the permission for it. Then it is left alone for a minute.
func statistics[T any](s *AdminSource, ask func(stats bool) (T, error)) (T, error) {
	if time.Now().Unix() < s.plainUntil.Load() {
		return ask(false)
	}
	answer, err := ask(true)
	if err == nil || errors.Is(err, ErrBudget) || errors.Is(err, admin.ErrNotFound) {
		return answer, err
	}
	plain, plainErr := ask(false)
	if plainErr != nil {
		return answer, err
	}
	s.plainUntil.Store(time.Now().Add(time.Minute).Unix())
	return plain, nil
}

// Tasks implements [Source]. A query that leaves nothing out costs one list
// call, another one up to five.
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

// queueID is the ID of a queue of this location.
func (s *AdminSource) queueID(name string) (string, error) {
	id, ok := strings.CutPrefix(name, s.parent+"/queues/")
	if !ok || id == "" || strings.Contains(id, "/") {
		return "", fmt.Errorf("dashboard: queue %q: %w; this source has those of %s", name, admin.ErrNotFound, s.parent)
	}
	return id, nil
}

// holds says whether a task is one of this location: a link must not lead
// this source's credentials anywhere else.
func (s *AdminSource) holds(task string) error {
	queue, _, _ := strings.Cut(task, "/tasks/")
	_, err := s.queueID(queue)
	return err
}
