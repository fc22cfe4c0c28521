package dispatch

import (
	"context"
	"fmt"
	"net/http"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff/emulator/internal/appengine"
	"github.com/brillconsulting/handoff/emulator/internal/engine"
	"github.com/brillconsulting/handoff/internal/target"
	"github.com/brillconsulting/handoff/internal/wire"
)

// appEngineRequest is the dispatch of an App Engine task (docs/cloud-tasks.md#11). The
// queue's routing override wins over the task's own.
func (d *Dispatcher) appEngineRequest(ctx context.Context, a *engine.Dispatch, task *cloudtaskspb.AppEngineHttpRequest) (*http.Request, error) {
	routing := task.GetAppEngineRouting()
	if own := a.Queue.GetAppEngineRoutingOverride(); own != nil {
		routing = own
	}
	host := appengine.Host(a.Queue.GetName(), routing)
	base, err := d.appEngineBase(host, routing)
	if err != nil {
		return nil, err
	}
	u, err := target.Parse(base + relativeURI(task))
	if err != nil {
		return nil, fmt.Errorf("emulator: App Engine task URL: %w", err)
	}
	method := Method(task.GetHttpMethod())
	header := headersOf(appengine.Headers(task))
	header.Set("Accept-Encoding", acceptEncoding)
	previous, reason := previousAppEngine(a.Previous)
	wire.AppEngine.Write(header, wire.Dispatch{
		Queue:            a.QueueID,
		Task:             a.TaskID,
		RetryCount:       a.Retries,
		ExecutionCount:   a.Responses, // counts 5xx, unlike for HTTP targets
		ETA:              a.Schedule,
		Retried:          a.Retries > 0,
		PreviousResponse: previous,
		RetryReason:      reason,
	})
	req, err := newRequest(ctx, method, u, header, task.GetBody())
	if err != nil {
		return nil, err
	}
	req.Host = host
	return req, nil
}

// appEngineBase is where an App Engine service is reached: at its configured
// address; else, where no dispatch leaves the process anyway, at its own host.
// Never does a dispatch reach the real App Engine.
func (d *Dispatcher) appEngineBase(host string, r *cloudtaskspb.AppEngineRouting) (string, error) {
	if base, ok := d.AppEngine.Lookup(r.GetService(), r.GetVersion(), r.GetInstance()); ok {
		return base, nil
	}
	if d.AnyHost() {
		return "http://" + host, nil
	}
	return "", fmt.Errorf("emulator: no address is configured for App Engine service %q", appengine.Service(r))
}

func relativeURI(task *cloudtaskspb.AppEngineHttpRequest) string {
	if task.GetRelativeUri() == "" {
		return "/"
	}
	return task.GetRelativeUri()
}

// previousAppEngine is the previous response as App Engine is told
// (docs/cloud-tasks.md#11.3, #6.2).
func previousAppEngine(o engine.Outcome) (status int, reason string) {
	if o.Status == 0 {
		return 0, "Instance Unavailable"
	}
	return o.Status, "App Error"
}
