package clients_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff/internal/assert"
)

// TestGcloud runs gcloud's commands in the order of a queue's life. Each must print
// the given members, or fail with the given message.
func TestGcloud(t *testing.T) {
	need(t, "gcloud", false)
	srv, worker, arrived := setup(t)
	env := []string{
		"CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDTASKS=http://" + srv.HTTPAddr() + "/",
		"CLOUDSDK_AUTH_DISABLE_CREDENTIALS=true",
		"CLOUDSDK_CORE_PROJECT=p",
		"CLOUDSDK_CORE_DISABLE_PROMPTS=1",
		"CLOUDSDK_CONFIG=" + t.TempDir(),
	}
	const queue = "projects/p/locations/us-central1/queues/q"
	for _, tc := range []struct {
		command string
		prints  map[string]string // dotted member: JSON value
		fails   string
	}{
		{command: "queues create q --max-attempts=5 --max-dispatches-per-second=100 --max-backoff=10s --routing-override=service:abc",
			prints: map[string]string{
				"name": `"` + queue + `"`, "state": `"RUNNING"`, "retryConfig.maxAttempts": "5", "retryConfig.maxBackoff": `"10s"`,
				"rateLimits.maxDispatchesPerSecond": "100.0", "appEngineRoutingOverride.service": `"abc"`,
			}},
		{command: "queues create q", fails: "ALREADY_EXISTS: Queue already exists"},
		{command: "queues describe none", fails: "NOT_FOUND: Queue does not exist."},
		{command: "queues create a_b", fails: "INVALID_ARGUMENT: Queue name must be formatted"},
		{command: "queues update q --max-attempts=unlimited --clear-max-backoff --clear-routing-override",
			prints: map[string]string{
				"retryConfig.maxAttempts": "-1", "retryConfig.maxBackoff": `"3600s"`, "appEngineRoutingOverride": "null",
				"rateLimits.maxDispatchesPerSecond": "100.0",
			}},
		{command: "queues pause q"},
		{command: "beta queues update q --routing-override=service:abc", prints: map[string]string{
			"type": `"PUSH"`, "tombstoneTtl": `"86400s"`, "appEngineHttpQueue.appEngineRoutingOverride.service": `"abc"`,
		}},
		{command: "queues update q --clear-routing-override"},
		{command: "queues describe q", prints: map[string]string{"state": `"PAUSED"`}},
		{command: "queues list", prints: map[string]string{"0.name": `"` + queue + `"`, "1": "null"}},
		{command: "queues add-iam-policy-binding q --member=user:a@example.com --role=roles/cloudtasks.viewer",
			prints: map[string]string{"bindings.0.role": `"roles/cloudtasks.viewer"`}},
		{command: "queues get-iam-policy q", prints: map[string]string{"bindings.0.members.0": `"user:a@example.com"`}},
		{command: "create-http-task t --queue=q --url=" + worker + " --method=PUT --header=X-From:gcloud --body-content=hi --schedule-time=2199-01-01T00:00:00Z",
			fails: "too far in the future"},
		{command: "create-http-task t --queue=q --url=" + worker + " --method=PUT --header=X-From:gcloud --body-content=hi",
			prints: map[string]string{"name": `"` + queue + `/tasks/t"`, "httpRequest.httpMethod": `"PUT"`, "view": `"BASIC"`}},
		{command: "create-app-engine-task --queue=q --relative-uri=/x?y=1 --routing=service:s", prints: map[string]string{"appEngineHttpRequest.relativeUri": `"/x?y=1"`}},
		{command: "list --queue=q", prints: map[string]string{"1.view": `"BASIC"`, "2": "null"}},
		{command: "describe t --queue=q --response-view=full", prints: map[string]string{"httpRequest.body": `"aGk="`, "view": `"FULL"`}},
		{command: "run t --queue=q", prints: map[string]string{"dispatchCount": "1"}},
		{command: "delete none --queue=q", fails: "NOT_FOUND: Requested entity was not found."},
		{command: "queues purge q"},
		{command: "queues resume q"},
		{command: "queues update q --http-uri-override=host:worker.example,path:/p --http-method-override=POST",
			prints: map[string]string{"httpTarget.uriOverride.host": `"worker.example"`, "httpTarget.httpMethod": `"POST"`}},
		{command: "queues pause q"},
		{command: "buffer --queue=q --task-id=buffered"},
		{command: "buffer --queue=q"},
		{command: "beta queues delete q"},
		{command: "beta queues create p --type=pull", fails: "pull queues are not supported by this emulator"},
		{command: "locations describe us-central1", prints: map[string]string{"locationId": `"us-central1"`}},
		{command: "locations list", prints: map[string]string{"0.labels": `{"cloud.googleapis.com/region":"africa-south1"}`}},
		{command: "cmek-config update --kms-key-name=k --kms-keyring=r --kms-project=p"},
		{command: "cmek-config describe", prints: map[string]string{"kmsKey": `"projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"`}},
	} {
		args := append([]string{"tasks"}, strings.Fields(tc.command)...)
		if args[1] == "beta" { // gcloud beta tasks, which speaks v2beta3
			args[0], args[1] = args[1], args[0]
		}
		if !strings.HasPrefix(tc.command, "locations") {
			args = append(args, "--location=us-central1")
		}
		stdout, stderr, err := run(t, env, "gcloud", append(args, "--format=json")...)
		switch {
		case tc.fails != "" && (err == nil || !strings.Contains(stderr, tc.fails)):
			t.Fatalf("gcloud tasks %s: got %v, want the failure %q\n%s", tc.command, err, tc.fails, stderr)
		case tc.fails == "" && err != nil:
			t.Fatalf("gcloud tasks %s: %v\n%s", tc.command, err, stderr)
		}
		for path, want := range tc.prints {
			if got := member(t, stdout, path); got != want {
				t.Errorf("gcloud tasks %s: %s is %s, want %s", tc.command, path, got, want)
			}
		}
		if strings.HasPrefix(tc.command, "run ") {
			expect(t, arrived, arrival{http.MethodPut, "gcloud", "hi"})
		}
		if tc.command == "buffer --queue=q" {
			assert.Equal(t, buffered(srv.Tasks(queue)), 2)
		}
	}
	assert.Equal(t, len(srv.Queues()), 0)
}

// buffered returns how many tasks have the queue's URL.
func buffered(tasks []*cloudtaskspb.Task) int {
	n := 0
	for _, task := range tasks {
		if task.GetHttpRequest().GetUrl() == "https://worker.example/p" {
			n++
		}
	}
	return n
}

// descend follows a dotted path through objects and lists. It returns nil if the
// path does not exist.
func descend(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(at) {
				return nil
			}
			v = at[i]
		default:
			return nil
		}
	}
	return v
}

// member returns the value at a dotted path of a JSON document, as JSON.
func member(t *testing.T, doc, path string) string {
	t.Helper()
	var v any
	dec := json.NewDecoder(strings.NewReader(doc))
	dec.UseNumber()
	assert.NoError(t, dec.Decode(&v))
	text, err := json.Marshal(descend(v, path))
	assert.NoError(t, err)
	return string(text)
}
