// Package rest serves gRPC services over REST and JSON, as Google does.
//
// It needs no generated code and no proxy: the paths come from the
// google.api.http annotations of the linked descriptors, and a request is
// decoded into the message of the service's gRPC handler. Responses and errors
// have the form that Google's clients and gcloud expect
// (docs/cloud-tasks.md#1.3).
//
// Streaming methods are not served.
package rest

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/brillconsulting/handoff/internal/body"
)

// DefaultMaxBody is the request body limit when [Config.MaxBody] is zero.
const DefaultMaxBody = 32 << 20

// Config configures a transcoder.
type Config struct {
	_ [0]func()

	// Services are the gRPC services to serve. At least one is required.
	Services []Service

	// Rules are bindings beyond the annotations, as the http.rules of a service
	// configuration: each names its method in Selector. The mixins (Locations,
	// Operations) need them, because their own annotations belong to no product.
	Rules []*annotations.HttpRule

	// Routes are REST methods without an RPC behind them.
	Routes []Route

	// Interceptor wraps every call of a service, as a gRPC server's would.
	// Defaults to none.
	Interceptor grpc.UnaryServerInterceptor

	// MaxBody limits a request's body, in bytes, before and after decompression.
	// Defaults to [DefaultMaxBody].
	MaxBody int

	// Logger logs panics. Defaults to [slog.Default].
	Logger *slog.Logger
}

// Service is a gRPC service and its implementation.
type Service struct {
	Desc *grpc.ServiceDesc
	Impl any
}

// Route is a REST method without an RPC. It accepts every HTTP method, and
// ignores the fields parameter.
type Route struct {
	// Path is a google.api.http path template.
	Path string

	// Envelope is the member of the response that holds the message; empty
	// means that the message is the response.
	Envelope string

	// Handle handles a request. vars are the template's variables. body is the
	// decompressed request body, at most [Config.MaxBody] bytes; it may be used
	// until the response is written. Errors carry gRPC statuses.
	Handle func(r *http.Request, vars map[string]string, body []byte) (proto.Message, error)
}

// Handler is a transcoder. It is safe for concurrent use.
type Handler struct {
	bindings    []*binding
	interceptor grpc.UnaryServerInterceptor
	maxBody     int
	logger      *slog.Logger
}

// New returns a transcoder for cfg. It returns an error for every service that
// is not linked and every binding that does not fit its messages.
func New(cfg Config) (*Handler, error) {
	h := &Handler{interceptor: cfg.Interceptor, maxBody: cfg.MaxBody, logger: cfg.Logger}
	if h.maxBody == 0 {
		h.maxBody = DefaultMaxBody
	}
	if h.logger == nil {
		h.logger = slog.Default()
	}
	var errs []error
	if len(cfg.Services) == 0 {
		errs = append(errs, errors.New("rest: Config.Services is empty: there is nothing to serve"))
	}
	for _, s := range cfg.Services {
		bindings, err := serviceBindings(s, cfg.Rules)
		h.bindings = append(h.bindings, bindings...)
		errs = append(errs, err)
	}
	for _, r := range cfg.Routes {
		b, err := routeBinding(r)
		h.bindings = append(h.bindings, b)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return h, nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler { //nolint:errorlint // as net/http does
			panic(p)
		}
		h.logger.Error("rest: panic", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
		WriteError(w, status.Error(codes.Internal, "Internal error encountered."))
	}()

	b, vars := h.find(r)
	if b == nil {
		WriteError(w, status.Error(codes.NotFound, "Method not found."))
		return
	}
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		WriteError(w, err)
		return
	}
	sent, release, err := h.readBody(r)
	defer release()
	if err != nil {
		WriteError(w, err)
		return
	}
	resp, err := h.call(b, r, vars, query, sent)
	if err != nil {
		WriteError(w, err)
		return
	}
	writeMessage(w, resp, b.envelope, query.numericEnums)
}

// find returns the binding for r and the path's variables, or nil.
func (h *Handler) find(r *http.Request) (*binding, []variable) {
	path, method := r.URL.EscapedPath(), r.Method
	// Google's clients for Java send PATCH so: Java's own HTTP client does not have it.
	if override := r.Header.Get("X-HTTP-Method-Override"); override != "" && method == http.MethodPost {
		method = strings.ToUpper(override)
	}
	for _, b := range h.bindings {
		if b.verb != "" && b.verb != method {
			continue
		}
		if vars, ok := b.template.match(path); ok {
			return b, vars
		}
	}
	return nil, nil
}

// readBody reads a request's body by [body.Read].
func (h *Handler) readBody(r *http.Request) (sent []byte, release func(), err error) {
	sent, release, err = body.Read(r, h.maxBody)
	switch {
	case errors.Is(err, body.ErrTooLarge):
		err = status.Errorf(codes.InvalidArgument, "Request payload size exceeds the limit: %d bytes.", h.maxBody)
	case errors.Is(err, body.ErrEncoding):
		err = status.Error(codes.InvalidArgument, "The request body is not what its Content-Encoding says, which may be gzip or nothing.")
	case err != nil:
		err = status.Error(codes.InvalidArgument, "The request body could not be read.")
	}
	return sent, release, err
}

// call calls the bound method. If the annotation names no body, that of the
// request is ignored.
func (h *Handler) call(b *binding, r *http.Request, vars []variable, query query, sent []byte) (proto.Message, error) {
	if b.route != nil {
		named := make(map[string]string, len(vars))
		for _, v := range vars {
			named[v.name] = v.value
		}
		return b.route(r, named, sent)
	}
	var wanted selection
	if query.fields != "" {
		var err error
		if wanted, err = parseFields(query.fields, b.output); err != nil {
			return nil, err // before anything is done
		}
	}
	decode := func(request any) error {
		return b.fill(request.(proto.Message).ProtoReflect(), vars, query, bytes.TrimSpace(sent))
	}
	resp, err := b.handler(b.impl, incoming(r), decode, h.interceptor)
	if err != nil {
		return nil, err
	}
	message, ok := resp.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("rest: %s returned a %T, must be a proto.Message", b.template, resp)
	}
	return wanted.of(message.ProtoReflect()).Interface(), nil
}
