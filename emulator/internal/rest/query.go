package rest

import (
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// query is a parsed query string. Of the system parameters it has those with an
// effect.
type query struct {
	params       []parameter
	numericEnums bool
	fields       string
}

type parameter struct {
	name   string
	values []string
}

// systemParameters are accepted on every method of every Google API
// (docs/cloud-tasks.md#1.2). Only alt and fields have an effect.
var systemParameters = []string{
	"alt", "$alt", "prettyPrint", "$prettyPrint", "fields", "$fields", "key", "$key", "access_token", "oauth_token",
	"quotaUser", "$.xgafv", "callback", "$callback", "uploadType", "upload_protocol",
}

func parseQuery(raw string) (query, error) {
	// A bare semicolon belongs to the value of "$alt=json;enum-encoding=int";
	// net/url refuses it.
	values, err := url.ParseQuery(strings.ReplaceAll(raw, ";", "%3B"))
	if err != nil {
		return query{}, status.Error(codes.InvalidArgument, "The query string is malformed.")
	}
	q := query{fields: strings.Join(slices.Concat(values["fields"], values["$fields"]), ",")}
	for name, v := range values {
		switch {
		case name == "alt" || name == "$alt":
			q.numericEnums = q.numericEnums || slices.Contains(v, "json;enum-encoding=int")
		case slices.Contains(systemParameters, name):
		default:
			q.params = append(q.params, parameter{name: name, values: v})
		}
	}
	// Sort, so that the same request always gets the same error.
	slices.SortFunc(q.params, func(a, b parameter) int { return strings.Compare(a.name, b.name) })
	return q, nil
}

// setParameter sets one field from the query.
func setParameter(parent protoreflect.Message, field protoreflect.FieldDescriptor, p parameter) error {
	if field.Message() != nil && field.Message().FullName() == (&fieldmaskpb.FieldMask{}).ProtoReflect().Descriptor().FullName() {
		mask := &fieldmaskpb.FieldMask{}
		for _, v := range p.values {
			mask.Paths = append(mask.Paths, maskPaths(v)...)
		}
		if slices.ContainsFunc(mask.Paths, func(path string) bool { return !fieldPath.MatchString(path) }) {
			return invalidValue(p.name, field)
		}
		parent.Set(field, protoreflect.ValueOfMessage(mask.ProtoReflect()))
		return nil
	}
	if len(p.values) > 1 && field.Cardinality() != protoreflect.Repeated {
		return invalidValue(p.name, field)
	}
	text, err := parameterJSON(field, p.values)
	if err != nil {
		return err
	}
	// Decode into a scratch message, because decoding resets its target.
	scratch := parent.New()
	if protojson.Unmarshal(text, scratch.Interface()) != nil {
		return invalidValue(p.name, field)
	}
	if !scratch.Has(field) {
		return nil
	}
	parent.Set(field, scratch.Get(field))
	return nil
}

// parameterJSON returns a JSON object with this one field.
func parameterJSON(field protoreflect.FieldDescriptor, values []string) ([]byte, error) {
	if field.IsMap() {
		return nil, unknownParameter(field.JSONName())
	}
	items := make([]json.RawMessage, len(values))
	for i, v := range values {
		item, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		// Numbers are accepted in quotes; booleans and enum numbers are not.
		if number := isNumber(v); field.Kind() == protoreflect.BoolKind && (v == "true" || v == "false") ||
			field.Kind() == protoreflect.EnumKind && number {
			item = json.RawMessage(v)
		}
		items[i] = item
	}
	var value any = items[0]
	if field.Cardinality() == protoreflect.Repeated {
		value = items
	}
	return json.Marshal(map[string]any{field.JSONName(): value})
}

func isNumber(v string) bool {
	var n int32
	return json.Unmarshal([]byte(v), &n) == nil
}

// fieldPath matches a path of a field mask. Anything else has no camelCase
// spelling, so it could not be returned.
var fieldPath = regexp.MustCompile(`^(\*|[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*(\.[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*)*)$`)

// maskPaths splits a field mask: Go and gcloud send camelCase, Node sends
// snake_case.
func maskPaths(v string) []string {
	var paths []string
	for path := range strings.SplitSeq(v, ",") {
		if path != "" {
			paths = append(paths, snakeCase(path))
		}
	}
	return paths
}

func snakeCase(path string) string {
	var b strings.Builder
	for _, r := range path {
		if 'A' <= r && r <= 'Z' {
			b.WriteByte('_')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
