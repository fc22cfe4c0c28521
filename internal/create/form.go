package create

import (
	"fmt"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/brillconsulting/handoff/internal/rpc"
)

// Headers are the headers of a task, each name once.
type Headers []Field

// Field is one header.
type Field struct{ Name, Value string }

// HeadersOf has room for those of handoff.
func HeadersOf(m map[string]string) Headers {
	h := make(Headers, 0, len(m)+8)
	for name, value := range m {
		h = append(h, Field{name, value})
	}
	return h
}

// Set adds a header, in place of that of the same name.
func (h *Headers) Set(name, value string) {
	for i := range *h {
		if (*h)[i].Name == name {
			(*h)[i].Value = value
			return
		}
	}
	*h = append(*h, Field{name, value})
}

// Form is what the tasks of one kind have in common: all but their headers,
// body, name and times. It is encoded once, because the encoder goes through a
// task in many small steps, and through headers by reflection. What is on the
// wire is the same. A Form is safe for concurrent use.
type Form struct {
	AppEngine bool

	request []byte // the HttpRequest or AppEngineHttpRequest
	rest    []byte // the Task around it
}

// NewForm makes the form of a task without headers and body.
func NewForm(t *cloudtaskspb.Task) (*Form, error) {
	f := &Form{AppEngine: t.GetAppEngineHttpRequest() != nil}
	var request proto.Message = t.GetHttpRequest()
	if f.AppEngine {
		request = t.GetAppEngineHttpRequest()
	}
	var err error
	if f.request, err = proto.Marshal(request); err != nil {
		return nil, err
	}
	rest := proto.CloneOf(t)
	rest.MessageType = nil
	f.rest, err = proto.Marshal(rest)
	return f, err
}

// Fill gives the task of req this form, these headers and this body, if they
// are within the limits. They go where a message keeps fields that it does not
// know, to be sent like any other, and cannot be read from it. Fill returns a
// bound of the request's size that costs little.
func (f *Form) Fill(req *cloudtaskspb.CreateTaskRequest, header Headers, body []byte) (int, error) {
	size, encoded := 0, 0
	for _, h := range header {
		size += len(h.Name) + len(h.Value)
		encoded += rpc.SizeEntry(headersOfHTTP, h.Name, h.Value)
	}
	if size >= MaxHeaders {
		return 0, fmt.Errorf("headers are %d bytes; they must be under %d", size, MaxHeaders)
	}
	request, headers, payload := httpOfTask, headersOfHTTP, bodyOfHTTP
	if f.AppEngine {
		request, headers, payload = appEngineOfTask, headersOfAppEngine, bodyOfAppEngine
	}
	encoded += len(f.request)
	if len(body) > 0 {
		encoded += protowire.SizeTag(payload) + protowire.SizeBytes(len(body))
	}
	b := make([]byte, 0, protowire.SizeTag(request)+protowire.SizeBytes(encoded)+len(f.rest))
	b = protowire.AppendTag(b, request, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(encoded))
	b = append(b, f.request...)
	for _, h := range header {
		var err error
		if b, err = rpc.AppendEntry(b, headers, h.Name, h.Value); err != nil {
			return 0, fmt.Errorf("header %q: %w", h.Name, err)
		}
	}
	if len(body) > 0 {
		b = protowire.AppendTag(b, payload, protowire.BytesType)
		b = protowire.AppendBytes(b, body)
	}
	req.Task.ProtoReflect().SetUnknown(append(b, f.rest...))
	return bound(req, len(b)+len(f.rest), len(body))
}

// bound checks the size of a task as the service will store it. 8 KiB are more
// than its name, its times and what the service adds can come to: only tasks
// near the limit are worth the exact count.
func bound(req *cloudtaskspb.CreateTaskRequest, encoded, body int) (int, error) {
	bound := encoded + 8<<10
	if bound <= MaxTask {
		return bound, nil
	}
	b, err := proto.Marshal(req.Task)
	if err != nil {
		return 0, err
	}
	whole := new(cloudtaskspb.Task)
	if err := proto.Unmarshal(b, whole); err != nil {
		return 0, err
	}
	if stored := StoredSize(req.Parent, whole); stored > MaxTask {
		return 0, fmt.Errorf("task is %d bytes as stored, %d of them the body; the limit is %d", stored, body, MaxTask)
	}
	return bound, nil
}
