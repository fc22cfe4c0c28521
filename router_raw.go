package handoff

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
)

// Raw registers fn for tasks that have no JSON [Payload], such as those of another
// producer. They may have any method, URL, headers and body, such as XML, protobuf
// or a form. Mount the returned handler where the URL of the tasks points, in any
// framework; the path does not name the kind. kind names the tasks in logs, metrics
// and dead letters, and matches the pattern of [Payload]. fn and its context are
// as in [Handle].
//
// req is the request of the task, with a new body for each call. It has no token:
// Authorization and X-Serverless-Authorization are removed. A body compressed by
// gzip is decompressed; any other coding is left as it was sent, with its
// Content-Encoding.
//
// Deliveries are verified, fenced, counted and buried as those of [Handle] are. The
// fence knows a task by its name, or by the ID and key that
// [Client.EnqueueRequest] gave it. The attempt limit of a task that handoff did not
// create is [RouterConfig].ForeignMaxAttempts; that of an EnqueueRequest without
// Retry is 5. A letter keeps the method and the URL, and [Client.Redrive] enqueues
// a [Request] to that URL. Tasks of Raw cannot be copied for later: [Snooze] fails
// the attempt, which is retried at the queue's pace. This is logged once for the
// kind.
//
// Call Raw before the router serves. It panics if fn is nil, or if kind is not
// valid or already has a handler, naming both places.
func (r *Router) Raw(kind string, fn func(ctx context.Context, req *http.Request) error, options ...HandleOption) http.Handler {
	where := "Raw at an unknown place"
	if _, file, line, ok := runtime.Caller(1); ok {
		where = fmt.Sprintf("Raw at %s:%d", file, line)
	}
	if fn == nil {
		panic(fmt.Sprintf("handoff: %s: the handler is nil", where))
	}
	r.register(&handler{
		kind:   kind,
		where:  where,
		policy: defaultPolicy,
		raw:    true,
		decode: func(body []byte) (any, Reason, error) {
			kept := bytes.Clone(body) // fn may keep it, and the buffer is reused
			return &kept, "", nil
		},
		run: func(ctx context.Context, payload any) error {
			d, _ := ctx.Value(infoKey{}).(*delivery)
			return fn(ctx, d.rawRequest(ctx, *payload.(*[]byte)))
		},
	}, nil, options)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.serve(w, req, kind) })
}

// raw reports whether the handler is one of Raw.
func (d *delivery) raw() bool { return d.handler != nil && d.handler.raw }

// rawRequest returns a request for one call of a handler of Raw.
func (d *delivery) rawRequest(ctx context.Context, body []byte) *http.Request {
	req := d.req.Clone(ctx)
	req.Header.Del("Authorization")
	req.Header.Del("X-Serverless-Authorization")
	if !d.bodyAsSent {
		req.Header.Del("Content-Encoding")
		req.Header.Del("Content-Length") // of the body as it was sent
	}
	req.Body, req.ContentLength, req.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	return req
}

// takes reports whether a task of this kind may have this method. A handler of Raw
// takes every method. A payload needs a method with a body.
func (r *Router) takes(kind, method string) bool {
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return true
	}
	h := r.handlers[kind]
	return h != nil && h.raw
}
