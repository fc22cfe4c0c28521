package rest_test

import (
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"

	"github.com/brillconsulting/handoff/emulator/internal/rest"
	"github.com/brillconsulting/handoff/internal/assert"
)

// TestNewReportsEveryProblem shows that New reports every wrong binding.
func TestNewReportsEveryProblem(t *testing.T) {
	t.Parallel()
	const method = "google.cloud.tasks.v2.CloudTasks.GetQueue"
	rule := func(path, body string) *annotations.HttpRule {
		return &annotations.HttpRule{Selector: method, Pattern: &annotations.HttpRule_Post{Post: path}, Body: body}
	}
	_, err := rest.New(rest.Config{
		Services: []rest.Service{
			{Desc: &cloudtaskspb.CloudTasks_ServiceDesc, Impl: &services{}},
			{Desc: &grpc.ServiceDesc{ServiceName: "nobody.Serves"}},
		},
		Rules: []*annotations.HttpRule{
			{Selector: method},
			rule("no-slash", ""),
			rule("/{open", ""),
			rule("/{=x}", ""),
			rule("/**/x", ""),
			rule("/{name}x", ""),
			rule("/{nobody}", ""),
			rule("/{name.deeper}", ""),
			rule("/x", "name"),
		},
		Routes: []rest.Route{{Path: "route"}},
	})
	assert.ErrorContains(t, err,
		`nobody.Serves`, `has no path`, `"no-slash" does not begin with a slash`, `"/{open": a brace is not closed`, `bad variable {=x}`,
		`** is allowed at the end only`, `want a slash at "x"`, `has no field "nobody"`, `name is not a message`,
		`body "name" is not a message field`, `"route" does not begin with a slash`)

	_, err = rest.New(rest.Config{})
	assert.ErrorContains(t, err, "rest: Config.Services is empty")
}
