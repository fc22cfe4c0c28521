package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

const queueName = "projects/batch-import/locations/europe-west1/queues/customers"

// newTestImporter returns an importer of a file with this many rows, and its
// emulator.
func newTestImporter(t *testing.T, rows int) (*importer, *emulator.Server, *bytes.Buffer) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "customers.csv")
	assert.NoError(t, writeSample(file, rows))
	out := new(bytes.Buffer)
	im, err := newImporter(file, out)
	assert.NoError(t, err)
	im.alone = true
	return im, emulator.RunT(t), out
}

// checkTasks fails the test unless each row is one task.
func checkTasks(t *testing.T, srv *emulator.Server, rows int) {
	t.Helper()
	seen := make(map[string]int)
	for _, task := range srv.Tasks(queueName) {
		var c Customer
		assert.NoError(t, json.Unmarshal(task.GetHttpRequest().GetBody(), &c))
		seen[c.ID]++
	}
	assert.Equal(t, len(seen), rows)
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s became %d tasks", id, n)
		}
	}
}

func TestImportInterruptedAndResumed(t *testing.T) {
	t.Parallel()
	im, srv, out := newTestImporter(t, 3000)
	assert.NoError(t, im.importAll(t.Context(), 0.4, srv.ClientOptions()))
	checkTasks(t, srv, 3000)
	for _, want := range []string{"interrupted", "started again", "100%", "tasks in the queue"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output does not contain %q:\n%s", want, out)
		}
	}
	if _, err := os.Stat(im.checkpoint()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the checkpoint of a finished import: %v", err)
	}
}

// cancelAfter is a writer that cancels the import once the progress bar shows a
// text.
type cancelAfter struct {
	bytes.Buffer
	text   string
	cancel context.CancelFunc
}

func (w *cancelAfter) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(w.text)) {
		w.cancel()
	}
	return w.Buffer.Write(p)
}

// Ctrl-C ends the context, and the next start resumes. Each time more rows are
// left than can be in flight, so every run is interrupted.
func TestImportCancelledAndStartedAgain(t *testing.T) {
	t.Parallel()
	const rows = 10_000
	im, srv, _ := newTestImporter(t, rows)
	for _, tenth := range []string{" 10%", " 40%", " 70%"} {
		ctx, cancel := context.WithCancel(t.Context())
		im.out = &cancelAfter{text: tenth, cancel: cancel}
		err := im.importAll(ctx, 0, srv.ClientOptions())
		cancel()
		assert.ErrorIs(t, err, errInterrupted)
		done, err := im.load()
		assert.NoError(t, err)
		if done < rows/10 || done >= rows {
			t.Errorf("at%s, %d rows are done", tenth, done)
		}
	}
	assert.NoError(t, im.importAll(t.Context(), 0, srv.ClientOptions()))
	checkTasks(t, srv, rows)
}

// A row that cannot be imported stops the import there.
func TestImportStopsAtABadRow(t *testing.T) {
	t.Parallel()
	im, srv, _ := newTestImporter(t, 500)
	text, err := os.ReadFile(im.file)
	assert.NoError(t, err)
	bad := bytes.Replace(text, []byte("example.com,299\n"), []byte("example.com,free\n"), 1)
	assert.NoError(t, os.WriteFile(im.file, bad, 0o600))
	err = im.importAll(t.Context(), 0, srv.ClientOptions())
	assert.ErrorContains(t, err, "row 300", `"free"`)
	assert.NoError(t, os.WriteFile(im.file, text, 0o600))
	assert.NoError(t, im.importAll(t.Context(), 0, srv.ClientOptions()))
	checkTasks(t, srv, 500)
}

func TestImportRefusesABadCheckpoint(t *testing.T) {
	t.Parallel()
	im, srv, _ := newTestImporter(t, 10)
	assert.NoError(t, os.WriteFile(im.checkpoint(), []byte("half\n"), 0o600))
	assert.ErrorContains(t, im.importAll(t.Context(), 0, srv.ClientOptions()), "customers.csv.done", "number of rows")
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		assert.Equal(t, fmt.Sprint(number(n)), want)
	}
}
