package emulator

import (
	"context"
	"net/http"
	"strings"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/brillconsulting/handoff/emulator/internal/dispatch"
	"github.com/brillconsulting/handoff/emulator/internal/rest"
)

// bufferMethod is the name that BufferTask would have as an RPC. The service has
// it over REST only (docs/cloud-tasks.md#3.4).
const bufferMethod = "/google.cloud.tasks.v2.CloudTasks/BufferTask"

// bufferRoutes are the paths of BufferTask: with a task ID, without one as the
// manual has it, and without one as gcloud asks for it.
func (s *Server) bufferRoutes() []rest.Route {
	var routes []rest.Route
	for _, version := range []string{"/v2/", "/v2beta3/"} { // as JSON the task is the same
		for _, tasks := range []string{"/tasks/{task_id}:buffer", "/tasks:buffer", "/tasks/:buffer"} {
			routes = append(routes, rest.Route{
				Path:     version + "{queue=projects/*/locations/*/queues/*}" + tasks,
				Envelope: "task",
				Handle:   s.bufferTask,
			})
		}
	}
	return routes
}

// bufferTask creates a task from a request: its body, decompressed, becomes the
// task's, the URL is the queue's. Whether the service passes on any of the request's
// headers is unknown; Content-Type is passed on here, since the body means
// nothing without it.
func (s *Server) bufferTask(r *http.Request, vars map[string]string, body []byte) (proto.Message, error) {
	if fromUnknownPage(r) {
		return nil, status.Error(codes.PermissionDenied,
			"The emulator refuses this request: a browser sent it and did not say for which page. Send it by POST.")
	}
	call := func(ctx context.Context, _ any) (any, error) {
		queue, err := s.service.GetQueue(ctx, &cloudtaskspb.GetQueueRequest{Name: vars["queue"]})
		if err != nil {
			return nil, err
		}
		override := queue.GetHttpTarget().GetUriOverride()
		if override.GetHost() == "" { // the service's error is unknown
			return nil, status.Error(codes.InvalidArgument,
				"BufferTask needs a queue with httpTarget.uriOverride.host: the request has nowhere to put a URL.")
		}
		target, err := dispatch.BufferURL(override)
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "The URL of the queue's httpTarget.uriOverride is not valid: %v.", err)
		}
		request := &cloudtaskspb.HttpRequest{Url: target.String(), Body: body}
		if kind := r.Header.Get("Content-Type"); kind != "" {
			request.Headers = map[string]string{"Content-Type": kind}
		}
		task := &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: request}}
		if id := vars["task_id"]; id != "" {
			task.Name = queue.GetName() + "/tasks/" + id
		}
		return s.service.CreateTask(ctx, &cloudtaskspb.CreateTaskRequest{Parent: queue.GetName(), Task: task})
	}
	resp, err := s.intercept(r.Context(), vars, &grpc.UnaryServerInfo{Server: s.service, FullMethod: bufferMethod}, call)
	if err != nil {
		return nil, err
	}
	return resp.(*cloudtaskspb.Task), nil
}

// fromUnknownPage reports whether a browser sent a GET without the headers by which
// webguard knows the requests of pages. Over plain HTTP to another machine, browsers
// leave them out (https://www.w3.org/TR/fetch-metadata). Of all that the port serves,
// only BufferTask changes something by GET.
func fromUnknownPage(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && strings.HasPrefix(r.UserAgent(), "Mozilla/") &&
		r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == ""
}
