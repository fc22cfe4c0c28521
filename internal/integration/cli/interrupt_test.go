package cli_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/redistest"
	"github.com/brillconsulting/handoff/redisstore"
	"github.com/creack/pty"
	"github.com/redis/go-redis/v9"
)

// paused starts an emulator with a paused queue.
func paused(t *testing.T) *emulator.Server {
	t.Helper()
	srv := emulator.RunT(t, emulator.Config{GRPCAddr: "127.0.0.1:0"})
	queue := "projects/" + project + "/locations/" + location + "/queues/emails"
	tasks := cloudtaskspb.NewCloudTasksClient(srv.Conn())
	_, err := tasks.CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{
		Parent: "projects/" + project + "/locations/" + location, Queue: &cloudtaskspb.Queue{Name: queue},
	})
	assert.NoError(t, err)
	_, err = tasks.PauseQueue(t.Context(), &cloudtaskspb.PauseQueueRequest{Name: queue})
	assert.NoError(t, err)
	return srv
}

func program(t *testing.T, tasks string, args ...string) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*maxWait)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(programs, "handoff"), args...)
	for name, value := range environment(tasks) {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	said := new(strings.Builder)
	cmd.Stderr = said
	return cmd, said
}

// TestInterruptedRedrive: redrives that have begun are finished and counted. The
// same command, run again, redrives the rest, each letter once.
func TestInterruptedRedrive(t *testing.T) {
	t.Parallel()
	const letters = 100
	addr := redistest.Start(t)
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	store := redisstore.NewDeadLetters(rdb, nil)
	for i := range letters {
		assert.NoError(t, store.Put(t.Context(), handoff.DeadLetter{
			ID: strconv.Itoa(i), Kind: "welcome-email", Queue: "emails", Target: "http://127.0.0.1:1/tasks/welcome-email", BuriedAt: time.Now(),
		}))
	}
	srv := paused(t)
	slow := srv.InjectCall(emulator.CallFault{Method: "CreateTask", Delay: 300 * time.Millisecond})
	args := []string{"dead", "redrive", "--all", "--redis", "redis://" + addr, "--target", "http://127.0.0.1:1/tasks", "--unsigned"}
	tasks := func() int { return len(srv.Tasks("projects/" + project + "/locations/" + location + "/queues/emails")) }

	cmd, said := program(t, srv.GRPCAddr(), args...)
	assert.NoError(t, cmd.Start())
	assert.Eventually(t, maxWait, func() bool { return tasks() > 0 }, "a letter to be redriven")
	assert.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	assert.NoError(t, codeIs("130", cmd.Wait()))
	told := regexp.MustCompile(`handoff: interrupted: (\d+) of 100 redriven, (\d+) not begun; the same command goes on with them\n$`).FindStringSubmatch(said.String())
	if told == nil {
		t.Fatalf("stderr: %s", said)
	}
	assert.Equal(t, told[1], strconv.Itoa(tasks()))
	left, err := store.CountByKind(t.Context())
	assert.NoError(t, err)
	assert.Equal(t, told[2], strconv.Itoa(left["welcome-email"]))
	assert.Equal(t, tasks()+left["welcome-email"], letters)

	slow()
	cmd, said = program(t, srv.GRPCAddr(), args...)
	assert.NoError(t, cmd.Run())
	assert.ErrorContains(t, errors.New(said.String()), fmt.Sprintf("%s of %s redriven", told[2], told[2]))
	assert.Equal(t, tasks(), letters)
}

// TestInterruptedCalls: Ctrl-C ends a call at once when the server does not
// respond.
func TestInterruptedCalls(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		signal syscall.Signal
		args   []string
		code   string
		want   string
	}{
		{syscall.SIGTERM, []string{"queues", "list"}, "143", "handoff: interrupted\n"},
		{syscall.SIGINT, []string{"tasks", "list", "emails"}, "130", "handoff: interrupted: 0 tasks listed, there are more\n"},
		{syscall.SIGINT, []string{"queues", "ensure", "-f", "testdata/queues.yaml"}, "130", "handoff: interrupted: nothing was changed\n"},
	} {
		t.Run(strings.Join(tc.args[:2], " "), func(t *testing.T) {
			t.Parallel()
			silent, err := net.Listen("tcp", "127.0.0.1:0")
			assert.NoError(t, err)
			defer silent.Close()
			cmd, said := program(t, silent.Addr().String(), tc.args...)
			assert.NoError(t, cmd.Start())
			for range 2 { // one connection checks that the server listens, one is for the call
				conn, err := silent.Accept()
				assert.NoError(t, err)
				defer conn.Close()
			}
			assert.NoError(t, cmd.Process.Signal(tc.signal))
			assert.NoError(t, codeIs(tc.code, cmd.Wait()))
			assert.Equal(t, said.String(), tc.want)
		})
	}
}

// TestInterruptedWait: the purge is made, and Ctrl-C only ends the wait for it.
func TestInterruptedWait(t *testing.T) {
	t.Parallel()
	srv := paused(t)
	srv.InjectCall(emulator.CallFault{Method: "ListTasks", Delay: time.Hour})
	cmd, said := program(t, srv.GRPCAddr(), "queues", "purge", "emails", "--yes", "--wait")
	assert.NoError(t, cmd.Start())
	assert.Eventually(t, maxWait, func() bool { return srv.Queues()[0].GetPurgeTime() != nil }, "the purge")
	assert.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	assert.NoError(t, codeIs("130", cmd.Wait()))
	assert.ErrorContains(t, errors.New(said.String()), "handoff: interrupted")
}

// TestInterruptedQuestion: Ctrl-C at a question does nothing and exits.
func TestInterruptedQuestion(t *testing.T) {
	t.Parallel()
	srv := paused(t)
	cmd, _ := program(t, srv.GRPCAddr(), "queues", "delete", "emails")
	cmd.Stderr = nil // the terminal
	terminal, err := pty.Start(cmd)
	assert.NoError(t, err)
	defer terminal.Close()
	shown := bufio.NewReader(terminal)
	_, err = shown.ReadString(']') // the prompt ends in [y/N]
	assert.NoError(t, err)
	_, err = terminal.WriteString("\x03")
	assert.NoError(t, err)
	rest, _ := io.ReadAll(shown) // ends with EIO, as terminals do
	assert.NoError(t, codeIs("130", cmd.Wait()))
	assert.ErrorContains(t, errors.New(string(rest)), "handoff: interrupted: nothing was done")
	assert.Equal(t, len(srv.Queues()), 1)
}
