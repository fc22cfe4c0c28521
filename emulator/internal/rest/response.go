package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// httpStatus maps a gRPC code as Google does (docs/cloud-tasks.md#1.3).
func httpStatus(c codes.Code) int {
	switch c {
	case codes.OK:
		return http.StatusOK
	case codes.Canceled:
		return 499 // "client closed request": net/http has no name for it
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists, codes.Aborted:
		return http.StatusConflict
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	default:
		return http.StatusInternalServerError
	}
}

// writeMessage writes a message as the response: without unset fields, and with
// enums by name unless the client asks for numbers.
func writeMessage(w http.ResponseWriter, message proto.Message, envelope string, numericEnums bool) {
	text, err := protojson.MarshalOptions{UseEnumNumbers: numericEnums}.Marshal(message)
	if err == nil && envelope != "" {
		text, err = json.Marshal(map[string]json.RawMessage{envelope: text})
	}
	if err != nil {
		WriteError(w, status.Error(codes.Internal, "The response could not be encoded."))
		return
	}
	writeJSON(w, http.StatusOK, text)
}

// errorBody is Google's error JSON (docs/cloud-tasks.md#1.3).
type errorBody struct {
	Error struct {
		Code    int               `json:"code"`
		Message string            `json:"message"`
		Status  string            `json:"status"`
		Details []json.RawMessage `json:"details,omitempty"`
	} `json:"error"`
}

// WriteError writes an error in the form that Google's clients expect.
func WriteError(w http.ResponseWriter, err error) {
	s, ok := status.FromError(err)
	if !ok && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		s = status.FromContextError(err)
	}
	var body errorBody
	body.Error.Code = httpStatus(s.Code())
	body.Error.Message = s.Message()
	body.Error.Status = code.Code(s.Code()).String()
	for _, detail := range s.Proto().GetDetails() {
		// A detail of a type that is not linked in has no JSON form.
		if text, err := protojson.Marshal(detail); err == nil {
			body.Error.Details = append(body.Error.Details, text)
		}
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false) // the service's texts contain <PROJECT_ID>
	if err := enc.Encode(body); err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	writeJSON(w, body.Error.Code, text.Bytes())
}

// writeJSON writes text indented, as Google does by default. Indenting also
// removes the white space that the protobuf library varies on purpose.
func writeJSON(w http.ResponseWriter, statusCode int, text []byte) {
	var indented bytes.Buffer
	if err := json.Indent(&indented, bytes.TrimSpace(text), "", "  "); err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	indented.WriteByte('\n')
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(statusCode)
	_, _ = w.Write(indented.Bytes())
}
