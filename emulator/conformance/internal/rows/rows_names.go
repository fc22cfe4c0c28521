package rows

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
)

const (
	lower   = "abcdefghijklmnopqrstuvwxyz"
	upper   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	decimal = "0123456789"
)

// nameTable is about the characters and the length of names (docs/cloud-tasks.md#2).
var nameTable = []Row{
	{"2", Documented, "an ID of a queue has lower-case letters", queueID(lower)},
	{"2", Documented, "an ID of a queue has upper-case letters", queueID(upper)},
	{"2", Documented, "an ID of a queue has digits", queueID(decimal)},
	{"2", Documented, "an ID of a queue has hyphens", queueID("a-b-c")},
	{"2", Documented, "an ID of a queue of 100 characters", queueID(strings.Repeat("x", 100))},
	{"2", Documented, "an ID of a queue of 101 characters", refusedQueue(named(strings.Repeat("x", 101)))},
	{"2", Documented, "an empty ID of a queue", refusedQueue(named(""))},
	{"2", Documented, "an ID of a task has lower-case letters", taskID(lower)},
	{"2", Documented, "an ID of a task has upper-case letters", taskID(upper)},
	{"2", Documented, "an ID of a task has digits", taskID(decimal)},
	{"2", Documented, "an ID of a task has hyphens", taskID("a-b-c")},
	{"2", Documented, "an ID of a task has underscores", taskID("a_b_c")},
	{"2", Documented, "an ID of a task of 1 character", taskID("x")},
	{"2", Documented, "an ID of a task of 500 characters", taskID(strings.Repeat("_", 500))},
	{"2", Documented, "an ID of a task of 501 characters", refusedTaskID(strings.Repeat("x", 501))},
	{"2", Documented, "an ID of a task in another script", refusedTaskID("täsk")},
	{"2", Documented, "an ID of a queue in another script", refusedQueue(named("warteschlänge"))},
	{"2", Documented, "two IDs of a queue that differ in case are two queues", func(b *fixture) {
		name := b.queue()
		other := strings.Replace(name, "/queues/q-", "/queues/Q-", 1)
		b.made(other)
		b.ok(b.createQueue(&cloudtaskspb.Queue{Name: other}))
	}},
	{"2", Observed, "a generated ID of a task is about 20 decimal digits", func(b *fixture) {
		if id := lastID(b.task(b.pausedQueue(), httpTask(example)).GetName()); !regexp.MustCompile(`^\d{17,22}$`).MatchString(id) {
			b.Fatalf("ID %q", id)
		}
	}},
	{"2", Documented, "generated IDs of tasks differ", func(b *fixture) {
		queue, seen := b.pausedQueue(), map[string]bool{}
		for range 20 {
			seen[b.task(queue, httpTask(example)).GetName()] = true
		}
		b.equal(len(seen), 20)
	}},
	{"2", Observed, "a malformed parent is taken for a project: PERMISSION_DENIED", func(b *fixture) {
		b.fails(malformedParent(b), codes.PermissionDenied, "")
	}},
	{"2", Documented, "a project may have a colon and dots in its ID", func(b *fixture) {
		b.local("it is another project")
		b.parent = "projects/example.com:" + b.project + "/locations/us-central1"
		name := b.queue()
		b.equal(b.getQueue(name).GetName(), name)
	}},
	{"2", Documented, "the REST paths are looser than names: the service itself refuses an underscore", func(b *fixture) {
		b.plain()
		b.status(http.StatusBadRequest, http.MethodPatch, "/v2/"+b.parent+"/queues/under_score", `{}`)
	}},
}

func nameRows() []Row {
	rows := slices.Clone(nameTable)
	for char := byte(' '); char < 0x7f; char++ {
		if !strings.ContainsRune(lower+upper+decimal+"-", rune(char)) {
			rows = append(rows, Row{"2", Documented, fmt.Sprintf("no ID of a queue has %q", char), refusedQueue(named("a" + string(char) + "b"))})
		}
		if !strings.ContainsRune(lower+upper+decimal+"-_", rune(char)) {
			rows = append(rows, Row{"2", Documented, fmt.Sprintf("no ID of a task has %q", char), refusedTaskID("a" + string(char) + "b")})
		}
	}
	for _, char := range []rune{0, '\t', '\n', '\r', 0x7f} {
		rows = append(rows,
			Row{"2", Documented, fmt.Sprintf("no ID of a queue has %q", char), refusedQueue(named("a" + string(char) + "b"))},
			Row{"2", Documented, fmt.Sprintf("no ID of a task has %q", char), refusedTaskID("a" + string(char) + "b")})
	}
	return rows
}

// queueID is a row's test for a valid queue ID, or the beginning of one.
func queueID(id string) func(*fixture) {
	return func(b *fixture) {
		fresh := lastID(b.freshName()) // to make the ID unique
		name := b.parent + "/queues/" + id + "-" + fresh
		if len(id) == 100 {
			name = b.parent + "/queues/" + (fresh + id)[:100]
		}
		b.made(name)
		b.ok(b.createQueue(&cloudtaskspb.Queue{Name: name}))
		b.equal(b.getQueue(name).GetName(), name)
	}
}

// taskID is a row's test for an ID that a task may have.
func taskID(id string) func(*fixture) {
	return func(b *fixture) {
		queue := b.pausedQueue()
		name := b.task(queue, httpTask(example, withID(queue, id))).GetName()
		b.equal(name, queue+"/tasks/"+id)
		b.equal(b.getTask(name).GetName(), name)
	}
}

func refusedTaskID(id string) func(*fixture) {
	return fails(codes.InvalidArgument, "", func(b *fixture) error {
		queue := b.pausedQueue()
		return b.createTask(queue, httpTask(example, withID(queue, id)))
	})
}

// refusedQueue is a row's test for a queue that cannot be created.
func refusedQueue(edits ...func(*cloudtaskspb.Queue)) func(*fixture) {
	return fails(codes.InvalidArgument, "", func(b *fixture) error {
		q := &cloudtaskspb.Queue{Name: b.freshName()}
		for _, edit := range edits {
			edit(q)
		}
		return b.createQueue(q)
	})
}

// refusedTask is a row's test for a task that cannot be created.
func refusedTask(edits ...func(*cloudtaskspb.Task)) func(*fixture) {
	return fails(codes.InvalidArgument, "", func(b *fixture) error {
		return b.createTask(b.pausedQueue(), httpTask(example, edits...))
	})
}

// keptQueue is a row's test for a setting that a queue keeps.
func keptQueue(edit func(*cloudtaskspb.Queue), get func(*cloudtaskspb.Queue) any, want any) func(*fixture) {
	return func(b *fixture) { b.equal(get(b.getQueue(b.queue(edit))), want) }
}

func malformedParent(b *fixture) error {
	b.grpcOnly("such a path has no route")
	_, err := b.v2.CreateQueue(b.ctx, &cloudtaskspb.CreateQueueRequest{
		Parent: "not-a-valid-parent", Queue: &cloudtaskspb.Queue{Name: "not-a-valid-parent/queues/q"},
	})
	return err
}
