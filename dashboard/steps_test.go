package dashboard_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/steps"
)

type importFile struct{}

func (importFile) Kind() string           { return "import-file" }
func (importFile) Policy() handoff.Policy { return handoff.Policy{Queue: "emails"} }

// brokenKeys is a store that cannot be read.
type brokenKeys struct{ handoff.KeyStore }

func (brokenKeys) ShowKey(context.Context, string) (handoff.KeyRecord, error) {
	return handoff.KeyRecord{}, errors.New("the store is away")
}

// The page of a task shows how far its work has come, while it runs and between its
// attempts, and a position only with the payload.
func TestTaskPageShowsSteps(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]handoff.Option{"without a key": nil, "with a key": {handoff.Key("file-1")}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := memstore.New()
			w := setup(t, func(_ *world, c *dashboard.Config) { c.Store = store })
			step, answer := make(chan string, 2), make(chan error, 2)
			await := func() error {
				select {
				case err := <-answer:
					return err
				case <-t.Context().Done(): // the test failed
					return t.Context().Err()
				}
			}
			router, err := handoff.NewRouter(handoff.RouterConfig{
				DangerouslyAllowUnauthenticated: true, Store: store, DeadLetters: w.letters, Client: w.client, Logger: slog.New(slog.DiscardHandler),
			})
			assert.NoError(t, err)
			handoff.Handle(router, func(ctx context.Context, _ importFile) error {
				if _, err := steps.Do(ctx, "down<load>", func(context.Context) (string, error) { return "s3cr3t", nil }); err != nil {
					return err
				}
				step <- "after the first"
				if err := await(); err != nil {
					return err
				}
				return steps.Each(ctx, "rows", func(ctx context.Context, c *steps.Cursor[string]) error {
					err := c.Save(ctx, "row-4711")
					step <- "saved"
					return errors.Join(err, await())
				})
			})
			w.tasks.SetHandler(router)
			receipt, err := w.client.Enqueue(t.Context(), importFile{}, append(opts, handoff.In(time.Hour))...)
			assert.NoError(t, err)
			task := w.tasks.Tasks("emails")[0].GetName()
			path := page + "/tasks/" + task[len(emails+"/tasks/"):]
			lacks(t, w.get(path), "Steps</h2>")
			_, err = w.admin.Tasks().RunNow(t.Context(), task)
			assert.NoError(t, err)

			<-step
			contains(t, w.get(path), "Steps</h2>", "<dt>Finished</dt><dd>down&lt;load&gt;</dd>", "<dt>Running</dt>", "a step without a position")
			answer <- nil
			<-step
			body := w.get(path)
			contains(t, body, receipt.ID, "<dt>Running</dt><dd>rows</dd>", "hidden with the payload")
			lacks(t, body, "row-4711", "s3cr3t")
			contains(t, w.get(path+"?payload=shown"), "<dt>Position</dt><dd class=\"mono\">&#34;row-4711&#34;</dd>")
			answer <- errors.New("the file is cut")
			assert.Eventually(t, 10*time.Second, func() bool {
				task, err := w.admin.Tasks().Get(t.Context(), task, admin.Basic)
				return err == nil && task.Execution.Responses == 1
			}, "a response")
			contains(t, w.get(path), "<dt>Next</dt><dd>rows</dd>")
			assert.NoError(t, router.Shutdown(t.Context()))
		})
	}
}

// A store that cannot be read costs its section of the page only.
func TestTaskPageWithoutTheStore(t *testing.T) {
	t.Parallel()
	w := setup(t, func(_ *world, c *dashboard.Config) { c.Store = brokenKeys{} })
	_, err := w.client.Enqueue(t.Context(), importFile{}, handoff.In(time.Hour))
	assert.NoError(t, err)
	task := w.tasks.Tasks("emails")[0].GetName()
	contains(t, w.get(page+"/tasks/"+task[len(emails+"/tasks/"):]), "the store is away", "import-file", "Show the payload")
}
