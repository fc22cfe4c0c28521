package main_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff/internal/assert"
)

// TestMemoryIsGivenBack: what tasks took is the system's again soon after they
// are gone, long before Go's own two minutes.
func TestMemoryIsGivenBack(t *testing.T) {
	t.Parallel()
	p := start(t, "--queue", emails)
	resident := func() int {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		if err != nil {
			t.Skip("only Linux has /proc")
		}
		_, line, _ := strings.Cut(string(status), "VmRSS:")
		kb, err := strconv.Atoi(strings.Fields(line)[0])
		assert.NoError(t, err)
		return kb << 10
	}
	client := p.client(t)
	_, err := client.PauseQueue(t.Context(), &cloudtaskspb.PauseQueueRequest{Name: emails})
	assert.NoError(t, err)
	const tasks, size = 100, 512 << 10
	for range tasks {
		_, err := client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: &cloudtaskspb.Task{
			MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: "http://127.0.0.1:1", Body: make([]byte, size)}},
		}})
		assert.NoError(t, err)
	}
	full := resident()
	_, err = client.PurgeQueue(t.Context(), &cloudtaskspb.PurgeQueueRequest{Name: emails})
	assert.NoError(t, err)
	assert.Eventually(t, 100*time.Second, func() bool { return resident() < full-tasks*size*3/4 }, "the memory of the purged tasks to be given back")
}
