package engine

import (
	"context"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// A purge beside other calls needs the race detector: they hash their task's ID
// before they take the lock.
func TestPurgeBesideOtherCalls(t *testing.T) {
	t.Parallel()
	e := New(Config{
		Dispatch: func(context.Context, *Dispatch) Outcome { return Outcome{Status: 200} },
		TaskTTL:  time.Hour,
	})
	defer e.Close()
	q, err := e.Create(Definition{Queue: &cloudtaskspb.Queue{Name: "projects/p/locations/l/queues/q"}})
	if err != nil {
		t.Fatal(err)
	}
	var callers sync.WaitGroup
	for range 2 {
		callers.Go(func() {
			for range 100 {
				if _, err := q.Purge(); err != nil {
					t.Error(err)
				}
			}
		})
		var tasks []Encoded
		for range 100 {
			tasks = append(tasks, empty(t, ""))
		}
		callers.Go(func() {
			for _, task := range tasks {
				if _, err := q.Add(task, time.Now().Add(time.Minute)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
}
