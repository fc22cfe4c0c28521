package rows

import (
	"slices"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// viewed is a row's test for the view of the task in a response.
func viewed(view cloudtaskspb.Task_View, call func(b *fixture, queue, name string, view cloudtaskspb.Task_View) (*cloudtaskspb.Task, error)) func(*fixture) {
	return func(b *fixture) {
		queue := b.pausedQueue()
		name := b.task(queue, httpTask(example, withBody("hi"), withHeaders(map[string]string{"X-Mine": "1"}))).GetName()
		task, err := call(b, queue, name, view)
		b.ok(err)
		want, body := cloudtaskspb.Task_BASIC, ""
		if view == cloudtaskspb.Task_FULL {
			want, body = view, "hi"
		}
		b.equal(task.GetView(), want)
		b.equal(string(task.GetHttpRequest().GetBody()), body)
		b.equal(task.GetHttpRequest().GetHeaders()["X-Mine"], "1")
	}
}

func viewOfCreated(b *fixture, queue, _ string, view cloudtaskspb.Task_View) (*cloudtaskspb.Task, error) {
	return b.v2.CreateTask(b.ctx, &cloudtaskspb.CreateTaskRequest{
		Parent: queue, Task: httpTask(example, withBody("hi"), withHeaders(map[string]string{"X-Mine": "1"})), ResponseView: view,
	})
}

func viewOfGot(b *fixture, _, name string, view cloudtaskspb.Task_View) (*cloudtaskspb.Task, error) {
	return b.v2.GetTask(b.ctx, &cloudtaskspb.GetTaskRequest{Name: name, ResponseView: view})
}

func viewOfListed(b *fixture, queue, _ string, view cloudtaskspb.Task_View) (*cloudtaskspb.Task, error) {
	return b.v2.ListTasks(b.ctx, &cloudtaskspb.ListTasksRequest{Parent: queue, ResponseView: view}).Next()
}

// ignoredOnTask is a row's test for an output-only field of a task.
func ignoredOnTask(edit func(*cloudtaskspb.Task), get func(*cloudtaskspb.Task) any, want any) func(*fixture) {
	return func(b *fixture) { b.equal(get(b.task(b.pausedQueue(), httpTask(example, edit))), want) }
}

// viewRows are about views, pages and output-only fields
// (docs/cloud-tasks.md#3.2).
var viewRows = []Row{
	{"3.2", Documented, "CreateTask returns BASIC by default: headers, no body", viewed(cloudtaskspb.Task_VIEW_UNSPECIFIED, viewOfCreated)},
	{"3.2", Documented, "CreateTask returns BASIC", viewed(cloudtaskspb.Task_BASIC, viewOfCreated)},
	{"3.2", Documented, "CreateTask returns FULL: the body too", viewed(cloudtaskspb.Task_FULL, viewOfCreated)},
	{"3.2", Documented, "GetTask returns BASIC by default: headers, no body", viewed(cloudtaskspb.Task_VIEW_UNSPECIFIED, viewOfGot)},
	{"3.2", Documented, "GetTask returns BASIC", viewed(cloudtaskspb.Task_BASIC, viewOfGot)},
	{"3.2", Documented, "GetTask returns FULL: the body too", viewed(cloudtaskspb.Task_FULL, viewOfGot)},
	{"3.2", Documented, "ListTasks returns BASIC by default: headers, no body", viewed(cloudtaskspb.Task_VIEW_UNSPECIFIED, viewOfListed)},
	{"3.2", Documented, "ListTasks returns BASIC", viewed(cloudtaskspb.Task_BASIC, viewOfListed)},
	{"3.2", Documented, "ListTasks returns FULL: the body too", viewed(cloudtaskspb.Task_FULL, viewOfListed)},
	{"3.2", Documented, "ListTasks in pages: every task once", func(b *fixture) {
		queue, want := b.pausedQueue(), map[string]bool{}
		for range 5 {
			want[b.task(queue, httpTask(example)).GetName()] = true
		}
		token, pages := "", 0
		for pages == 0 || token != "" {
			var page []*cloudtaskspb.Task
			it := b.v2.ListTasks(b.ctx, &cloudtaskspb.ListTasksRequest{Parent: queue})
			next, err := iterator.NewPager(it, 2, token).NextPage(&page)
			b.ok(err)
			for _, task := range page {
				if !want[task.GetName()] {
					b.Fatalf("listed twice or never created: %s", task.GetName())
				}
				delete(want, task.GetName())
			}
			token, pages = next, pages+1
		}
		b.equal(len(want), 0)
	}},
	{"3.2", Documented, "ListTasks: a page has no more tasks than asked for", func(b *fixture) {
		queue := b.pausedQueue()
		for range 3 {
			b.task(queue, httpTask(example))
		}
		it := b.v2.ListTasks(b.ctx, &cloudtaskspb.ListTasksRequest{Parent: queue, PageSize: 2})
		_, err := it.Next()
		b.ok(err)
		b.equal(it.PageInfo().Remaining() <= 1, true)
	}},
	{"3.2", Documented, "ListQueues is in the order of names", func(b *fixture) {
		b.local("the project may have other queues")
		names := []string{b.queue(), b.queue(), b.queue()}
		slices.Sort(names)
		b.equal(slices.Concat(b.listQueues(10, "")...), names)
	}},
	{"3.2", Documented, "ListQueues in pages of the size asked for", func(b *fixture) {
		b.local("the project may have other queues")
		names := []string{b.queue(), b.queue(), b.queue(), b.queue(), b.queue()}
		slices.Sort(names)
		b.equal(b.listQueues(2, ""), [][]string{names[:2], names[2:4], names[4:]})
	}},
	{"3.2", Documented, "ListQueues: another filter than that of the page token", func(b *fixture) {
		b.queue()
		b.queue()
		var page []*cloudtaskspb.Queue
		it := b.v2.ListQueues(b.ctx, &cloudtaskspb.ListQueuesRequest{Parent: b.parent})
		token, err := iterator.NewPager(it, 1, "").NextPage(&page)
		b.ok(err)
		_, err = b.v2.ListQueues(b.ctx, &cloudtaskspb.ListQueuesRequest{Parent: b.parent, Filter: "state=RUNNING", PageToken: token}).Next()
		b.fails(err, codes.InvalidArgument, "")
	}},
	{"3.2", Observed, "CreateQueue ignores a state", keptQueue(func(q *cloudtaskspb.Queue) { q.State = cloudtaskspb.Queue_PAUSED },
		func(q *cloudtaskspb.Queue) any { return q.GetState() }, cloudtaskspb.Queue_RUNNING)},
	{"3.2", Observed, "CreateQueue ignores a purge time", keptQueue(func(q *cloudtaskspb.Queue) { q.PurgeTime = timestamppb.Now() },
		func(q *cloudtaskspb.Queue) any { return q.GetPurgeTime() == nil }, true)},
	{"3.2", Documented, "UpdateQueue ignores a purge time", func(b *fixture) {
		name := b.queue()
		b.update(&cloudtaskspb.Queue{Name: name, PurgeTime: timestamppb.Now()})
		b.equal(b.getQueue(name).GetPurgeTime() == nil, true)
	}},
	{"3.2", Documented, "CreateTask ignores a dispatch count", ignoredOnTask(func(t *cloudtaskspb.Task) { t.DispatchCount = 3 },
		func(t *cloudtaskspb.Task) any { return t.GetDispatchCount() }, int32(0))},
	{"3.2", Documented, "CreateTask ignores a response count", ignoredOnTask(func(t *cloudtaskspb.Task) { t.ResponseCount = 3 },
		func(t *cloudtaskspb.Task) any { return t.GetResponseCount() }, int32(0))},
	{"3.2", Documented, "CreateTask ignores a create time", ignoredOnTask(func(t *cloudtaskspb.Task) { t.CreateTime = timestamppb.New(time.Unix(1, 0)) },
		func(t *cloudtaskspb.Task) any { return t.GetCreateTime().GetSeconds() > 1 }, true)},
	{"3.2", Documented, "CreateTask ignores a first attempt", ignoredOnTask(func(t *cloudtaskspb.Task) { t.FirstAttempt = attemptNow() },
		func(t *cloudtaskspb.Task) any { return t.GetFirstAttempt() == nil }, true)},
	{"3.2", Documented, "CreateTask ignores a last attempt", ignoredOnTask(func(t *cloudtaskspb.Task) { t.LastAttempt = attemptNow() },
		func(t *cloudtaskspb.Task) any { return t.GetLastAttempt() == nil }, true)},
	{"3.2", Documented, "CreateTask ignores the view of the task", ignoredOnTask(func(t *cloudtaskspb.Task) { t.View = cloudtaskspb.Task_FULL },
		func(t *cloudtaskspb.Task) any { return t.GetView() }, cloudtaskspb.Task_BASIC)},
}

func attemptNow() *cloudtaskspb.Attempt {
	return &cloudtaskspb.Attempt{DispatchTime: timestamppb.Now()}
}

// listQueues reads all pages of a size and returns the names by page.
func (b *fixture) listQueues(size int32, filter string) [][]string {
	b.Helper()
	var pages [][]string
	token := ""
	for {
		var page []*cloudtaskspb.Queue
		it := b.v2.ListQueues(b.ctx, &cloudtaskspb.ListQueuesRequest{Parent: b.parent, Filter: filter, PageSize: size})
		next, err := iterator.NewPager(it, int(size), token).NextPage(&page)
		b.ok(err)
		var names []string
		for _, q := range page {
			names = append(names, q.GetName())
		}
		pages = append(pages, names)
		if token = next; token == "" {
			return pages
		}
	}
}

// filterRows are about the filter of ListQueues (docs/cloud-tasks.md#3.2). Each
// has a paused queue, one of 3 a second, and one without settings.
var filterRows = []Row{
	filtered("state: PAUSED", "paused"),
	filtered("state=PAUSED", "paused"),
	filtered("state != RUNNING", "paused"),
	filtered("state=DISABLED"),
	filtered("rateLimits.maxDispatchesPerSecond<=3", "slow"),
	filtered("rateLimits.maxDispatchesPerSecond<4", "slow"),
	filtered("rateLimits.maxDispatchesPerSecond<3"),
	filtered("rateLimits.maxDispatchesPerSecond>3", "paused", "plain"),
	filtered("rateLimits.maxDispatchesPerSecond>=3", "paused", "slow", "plain"),
	filtered("rateLimits.maxDispatchesPerSecond!=3", "paused", "plain"),
	filtered("rate_limits.max_dispatches_per_second=3", "slow"),
	filtered("state=RUNNING AND rateLimits.maxDispatchesPerSecond>3", "plain"),
	filtered("state=PAUSED OR rateLimits.maxDispatchesPerSecond=3", "paused", "slow"),
	filtered("NOT state=PAUSED", "slow", "plain"),
	{"3.2", Documented, "ListQueues by a name", func(b *fixture) {
		name, _ := b.queue(), b.queue()
		b.equal(slices.Concat(b.listQueues(10, `name="`+name+`"`)...), []string{name})
	}},
	{"3.2", Documented, "ListQueues with an invalid filter", fails(codes.InvalidArgument, "", func(b *fixture) error {
		_, err := b.v2.ListQueues(b.ctx, &cloudtaskspb.ListQueuesRequest{Parent: b.parent, Filter: "colour=red"}).Next()
		return err
	})},
}

func filtered(filter string, want ...string) Row {
	return Row{"3.2", Documented, "ListQueues by " + filter, func(b *fixture) {
		b.local("the project may have other queues")
		kinds := map[string]string{b.pausedQueue(): "paused", b.queue(rate(3)): "slow", b.queue(): "plain"}
		got := []string{}
		for _, name := range slices.Concat(b.listQueues(10, filter)...) {
			got = append(got, kinds[name])
		}
		slices.Sort(got)
		expected := append([]string{}, want...)
		slices.Sort(expected)
		b.equal(got, expected)
	}}
}
