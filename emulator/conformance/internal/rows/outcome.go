package rows

import (
	"encoding/json"
	"errors"
	"strings"

	"google.golang.org/api/googleapi"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
)

// outcome is how a call ended, the same for both transports.
type outcome struct {
	code    codes.Code
	message string
	details []map[string]any // as JSON, with @type
}

// outcomeOf returns the outcome of a call of Google's client. Over REST, the client
// derives the code from the HTTP status alone, so the body is read instead.
func outcomeOf(err error) outcome {
	if err == nil {
		return outcome{}
	}
	if rest := (*googleapi.Error)(nil); errors.As(err, &rest) {
		var body struct {
			Error struct {
				Message string
				Status  string
				Details []map[string]any
			}
		}
		if json.Unmarshal([]byte(rest.Body), &body) != nil {
			return outcome{code: codes.Unknown, message: "not Google's error JSON: " + rest.Body}
		}
		return outcome{
			code:    codes.Code(code.Code_value[body.Error.Status]),
			message: body.Error.Message,
			details: body.Error.Details,
		}
	}
	s, _ := status.FromError(err)
	o := outcome{code: s.Code(), message: s.Message()}
	for _, d := range s.Proto().GetDetails() {
		var detail map[string]any
		if text, err := protojson.Marshal(d); err == nil && json.Unmarshal(text, &detail) == nil {
			o.details = append(o.details, detail)
		}
	}
	return o
}

// detail returns the detail of a type of package google.rpc.
func (o outcome) detail(name string) map[string]any {
	for _, d := range o.details {
		if kind, _ := d["@type"].(string); strings.HasSuffix(kind, "/google.rpc."+name) {
			return d
		}
	}
	return nil
}
