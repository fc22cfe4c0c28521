package service

import (
	"context"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/brillconsulting/handoff/emulator/internal/engine"
	"github.com/brillconsulting/handoff/emulator/internal/names"
)

func (s *Service) CreateTask(_ context.Context, req *cloudtaskspb.CreateTaskRequest) (*cloudtaskspb.Task, error) {
	full, err := isFull(req.GetResponseView())
	if err != nil {
		return nil, err
	}
	q, err := s.queueOfTasks(req.GetParent())
	if err != nil {
		return nil, err
	}
	return s.createTask(q, req.GetTask(), full)
}

func (s *Service) createTask(q *engine.Queue, asked *cloudtaskspb.Task, full bool) (*cloudtaskspb.Task, error) {
	id, err := taskID(q.Name(), asked.GetName())
	if err != nil {
		return nil, err
	}
	now := time.Now()
	stored, err := s.completeTask(s.addressed(q.Name(), asked), now)
	if err != nil {
		return nil, err
	}
	if s.cmek.keys.Load() > 0 {
		if err := s.cmek.excludes(q.Name(), q.Status().Queue.GetHttpTarget()); err != nil {
			return nil, err
		}
	}
	due := now
	if asked.GetScheduleTime() != nil {
		due = asked.GetScheduleTime().AsTime().Truncate(time.Microsecond)
	}
	encoded, err := engine.Encode(id, stored)
	if err != nil {
		return nil, engineError(err)
	}
	if err := checkSize(q.Name(), id, encoded.Size(), stored, due, now); err != nil {
		return nil, err
	}
	added, err := q.Add(encoded, due)
	if err != nil {
		return nil, engineError(err)
	}
	return taskView(q.Name(), added, stored, full), nil
}

// addressed gives an HTTP task without a URL the default one, if there is any.
func (s *Service) addressed(queue string, t *cloudtaskspb.Task) *cloudtaskspb.Task {
	if s.options.DefaultURL == "" || t.GetHttpRequest() == nil || t.GetHttpRequest().GetUrl() != "" {
		return t
	}
	t = proto.CloneOf(t)
	q, _ := names.ParseQueue(queue)
	t.GetHttpRequest().Url = ExpandURL(s.options.DefaultURL, q)
	return t
}

// ExpandURL puts the parts of a queue's name into a default URL.
func ExpandURL(template string, q names.Queue) string {
	return strings.NewReplacer("{project}", q.Project, "{location}", q.Location, "{queue}", q.ID).Replace(template)
}

// taskID takes the ID out of a task name that must be in the queue; an
// empty name leaves the choice to the engine.
func taskID(queue, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	parent, id, ok := names.SplitTask(name)
	if !ok {
		return "", invalid(`Task name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>/tasks/<TASK_ID>".`)
	}
	if parent != queue {
		return "", invalid("The queue name from request ('%s') must be the same as the queue name in the named task ('%s').", queue, parent)
	}
	if !names.IsTaskID(id) {
		return "", errTaskID(id)
	}
	return id, nil
}

func (s *Service) GetTask(_ context.Context, req *cloudtaskspb.GetTaskRequest) (*cloudtaskspb.Task, error) {
	full, err := isFull(req.GetResponseView())
	if err != nil {
		return nil, err
	}
	q, id, err := s.task(req.GetName())
	if err != nil {
		return nil, err
	}
	t, err := q.Get(id)
	if err != nil {
		return nil, engineError(err)
	}
	return taskView(q.Name(), t, engine.Decode(t.Message), full), nil
}

func (s *Service) ListTasks(_ context.Context, req *cloudtaskspb.ListTasksRequest) (*cloudtaskspb.ListTasksResponse, error) {
	full, err := isFull(req.GetResponseView())
	if err != nil {
		return nil, err
	}
	q, err := s.queue(req.GetParent())
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(req.GetPageSize(), maxTasksPage)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	from := uint64(0)
	if req.GetPageToken() != "" {
		position, err := s.pages.open(req.GetPageToken(), now, "tasks", req.GetParent())
		if err != nil {
			return nil, err
		}
		if from, err = strconv.ParseUint(position, 10, 64); err != nil {
			return nil, errPageToken
		}
	}
	resp := new(cloudtaskspb.ListTasksResponse)
	page, next := q.List(from, limit, maxListBytes)
	for _, t := range page {
		resp.Tasks = append(resp.Tasks, taskView(q.Name(), t, engine.Decode(t.Message), full))
	}
	if next != 0 {
		resp.NextPageToken = s.pages.seal(strconv.FormatUint(next, 10), now, "tasks", req.GetParent())
	}
	return resp, nil
}

// A page may hold fewer tasks than asked for (docs/cloud-tasks.md#3.2); a thousand
// tasks of a megabyte do not go into one response.
const maxListBytes = 8 << 20

func (s *Service) DeleteTask(_ context.Context, req *cloudtaskspb.DeleteTaskRequest) (*emptypb.Empty, error) {
	q, id, err := s.task(req.GetName())
	if err != nil {
		return nil, err
	}
	if err := q.Remove(id); err != nil {
		return nil, engineError(err)
	}
	return new(emptypb.Empty), nil
}

func (s *Service) RunTask(_ context.Context, req *cloudtaskspb.RunTaskRequest) (*cloudtaskspb.Task, error) {
	full, err := isFull(req.GetResponseView())
	if err != nil {
		return nil, err
	}
	q, id, err := s.task(req.GetName())
	if err != nil {
		return nil, err
	}
	t, err := q.Run(id)
	if err != nil {
		return nil, engineError(err)
	}
	return taskView(q.Name(), t, engine.Decode(t.Message), full), nil
}

// task finds the queue of a task name and splits off the ID.
func (s *Service) task(name string) (*engine.Queue, string, error) {
	queue, id, ok := names.SplitTask(name)
	if !ok {
		return nil, "", errResource(name)
	}
	if q := s.engine.Queue(queue); q != nil {
		return q, id, nil
	}
	if _, ok := names.ParseQueue(queue); ok {
		return nil, "", errEntityMissing
	}
	return nil, "", errQueueLookup(queue)
}

func isFull(v cloudtaskspb.Task_View) (bool, error) {
	switch v {
	case cloudtaskspb.Task_VIEW_UNSPECIFIED, cloudtaskspb.Task_BASIC:
		return false, nil
	case cloudtaskspb.Task_FULL:
		return true, nil
	}
	return false, invalid("Invalid value for Task.View: %d.", v)
}
