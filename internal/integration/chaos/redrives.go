package main

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"sync"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/redisstore"
)

// createForeign creates a task as a program without handoff would.
func (r *rig) createForeign(ctx context.Context, q request, queue string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, err := json.Marshal(q.payload())
	if err != nil {
		return err
	}
	_, err = r.admin.CreateTask(ctx, &cloudtaskspb.CreateTaskRequest{
		Parent: parent + "/queues/" + queue,
		Task: &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
			Url:     r.fleet.url + "/tasks/" + q.payload().Kind(),
			Headers: map[string]string{"Content-Type": "application/json", headerWork: q.work},
			Body:    body,
			AuthorizationHeader: &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{
				ServiceAccountEmail: account, Audience: r.fleet.url,
			}},
		}}},
	})
	return err
}

// deadLetters returns the letters that were not redriven, by their work.
func (r *rig) deadLetters(ctx context.Context) (map[string][]handoff.DeadLetter, error) {
	rdb := r.redis.client()
	defer rdb.Close()
	store := redisstore.NewDeadLetters(rdb, nil)
	found := make(map[string][]handoff.DeadLetter)
	for query := (handoff.DeadLetterQuery{Limit: 1000}); ; {
		page, err := store.List(ctx, query)
		if err != nil {
			return nil, err
		}
		for _, letter := range page.Letters {
			found[workOf(letter)] = append(found[workOf(letter)], letter)
		}
		if query.Cursor = page.Next; page.Next == "" {
			return found, nil
		}
	}
}

func workOf(letter handoff.DeadLetter) string {
	if names := letter.Header[headerWork]; len(names) == 1 {
		return names[0]
	}
	return "unnamed: " + letter.ID
}

// redriveSome redrives the letters that their jobs want redriven, once each, and a
// third of them twice at the same time. It returns how many it tried.
func (r *rig) redriveSome(ctx context.Context, random *rand.Rand) (tried int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	letters, err := r.deadLetters(ctx)
	if err != nil {
		return 0, err
	}
	rdb := r.redis.client()
	defer rdb.Close()
	store := redisstore.NewDeadLetters(rdb, nil)
	for work, ofWork := range letters {
		for _, letter := range ofWork {
			var j job
			if json.Unmarshal(letter.Payload, &j) != nil || !j.Redrive || letter.Redrives > 0 {
				continue
			}
			tried++
			r.ledger.write(event{What: evRedrive, ID: work, Red: letter.Redrives})
			times := 1 + random.IntN(3)/2
			if times > 1 {
				r.count("letters redriven twice at once")
			}
			var wg sync.WaitGroup
			for range times {
				wg.Go(func() {
					if _, err := r.client.Redrive(ctx, store, letter.ID); err != nil {
						r.count("redrives that failed")
						return
					}
					r.ledger.write(event{What: evRedriven, ID: work, Red: letter.Redrives})
				})
			}
			wg.Wait()
		}
	}
	return tried, nil
}

// redriveAll redrives until no letter wants it, and waits for what it enqueued.
func (r *rig) redriveAll(ctx context.Context) error {
	random := rand.New(rand.NewPCG(r.config.seed, 2))
	for {
		tried, err := r.redriveSome(ctx, random)
		if err != nil || tried == 0 {
			return err
		}
		if err := r.tasks.Wait(ctx); err != nil {
			return err
		}
	}
}
