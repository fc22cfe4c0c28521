package emulator_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// TestRecordedRequests replays what gcloud, Node's REST client and Go's were
// recorded to send, in the order of a queue's life. The clients themselves are
// run in internal/integration/clients, where they are installed.
func TestRecordedRequests(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t, emulator.Config{HTTPAddr: "127.0.0.1:0"})
	const (
		base  = "/v2/projects/p/locations/us-central1"
		q     = base + "/queues/q"
		names = "?alt=json"
		ints  = "?$alt=json%3Benum-encoding=int"     // Node
		goInt = "?%24alt=json%3Benum-encoding%3Dint" // Go
		full  = "projects/p/locations/us-central1/queues/q"
	)
	for _, tc := range []struct {
		client, verb, path, body string
		status                   int
		member                   string // dotted
		want                     any
	}{
		{"gcloud queues create", "POST", base + "/queues" + names, `{"name":"` + full + `","rateLimits":{"maxDispatchesPerSecond":100,` +
			`"maxConcurrentDispatches":10},"retryConfig":{"maxAttempts":10,"maxRetryDuration":"5s","maxDoublings":4,"minBackoff":"1s","maxBackoff":"10s"},` +
			`"appEngineRoutingOverride":{"service":"abc"},"stackdriverLoggingConfig":{"samplingRatio":0.5}}`, 200, "retryConfig.maxRetryDuration", "5s"},
		{"gcloud queues create, again", "POST", base + "/queues" + names, `{"name":"` + full + `"}`, 409, "error.status", "ALREADY_EXISTS"},
		{"gcloud queues describe", "GET", q + names, "", 200, "state", "RUNNING"},
		{"Node getQueue", "GET", q + ints, "", 200, "state", 1.0},
		{"Go GetQueue", "GET", q + goInt, "", 200, "state", 1.0},
		{"gcloud queues update", "PATCH", q + names + "&updateMask=rateLimits.maxDispatchesPerSecond%2CretryConfig.maxAttempts",
			`{"name":"` + full + `","rateLimits":{"maxDispatchesPerSecond":50},"retryConfig":{"maxAttempts":-1}}`, 200, "retryConfig.maxAttempts", -1.0},
		{"gcloud queues update left the rest", "GET", q + names, "", 200, "retryConfig.maxBackoff", "10s"},
		{"Node updateQueue", "PATCH", q + ints + "&updateMask=rate_limits.max_dispatches_per_second",
			`{"rateLimits":{"maxDispatchesPerSecond":20}}`, 200, "rateLimits.maxDispatchesPerSecond", 20.0},
		{"gcloud queues update --clear-routing-override", "PATCH", q + names + "&updateMask=appEngineRoutingOverride", `{"name":"` + full + `"}`,
			200, "appEngineRoutingOverride", nil},
		{"gcloud queues list", "GET", base + "/queues" + names, "", 200, "queues.name", full},
		{"gcloud queues list --page-size", "GET", base + "/queues" + names + "&pageSize=1", "", 200, "nextPageToken", nil},
		{"gcloud queues pause", "POST", q + ":pause" + names, "{}", 200, "state", "PAUSED"},
		{"the manual's curl, an empty body", "POST", q + ":pause", "", 200, "state", "PAUSED"},
		{"Go PauseQueue", "POST", q + ":pause" + goInt, `{"name":"` + full + `"}`, 200, "state", 2.0},
		{"gcloud create-http-task", "POST", q + "/tasks" + names, `{"task":{"name":"` + full + `/tasks/t","httpRequest":{"url":"http://127.0.0.1:1/",` +
			`"httpMethod":"PUT","headers":{"A":"b"},"body":"aGk=","oidcToken":{"serviceAccountEmail":"a@p.iam.gserviceaccount.com"}}}}`, 200, "httpRequest.httpMethod", "PUT"},
		{"Node createTask", "POST", q + "/tasks" + ints, `{"task":{"httpRequest":{"url":"http://127.0.0.1:1/","httpMethod":4,"body":"aGk="}},"responseView":2}`,
			200, "httpRequest.body", "aGk="},
		{"gcloud create-app-engine-task, no flags", "POST", q + "/tasks" + names, `{"task":{"appEngineHttpRequest":{}}}`, 200, "appEngineHttpRequest.relativeUri", "/"},
		{"gcloud list", "GET", q + "/tasks" + names + "&pageSize=25", "", 200, "tasks.view", "BASIC"},
		{"gcloud describe --response-view=full", "GET", q + "/tasks/t" + names + "&responseView=FULL", "", 200, "httpRequest.body", "aGk="},
		{"gcloud describe", "GET", q + "/tasks/t" + names + "&responseView=BASIC", "", 200, "httpRequest.body", nil},
		{"Node getTask", "GET", q + "/tasks/t" + ints + "&responseView=2", "", 200, "view", 2.0},
		{"gcloud run", "POST", q + "/tasks/t:run" + names, "{}", 200, "dispatchCount", 1.0},
		{"gcloud delete", "DELETE", q + "/tasks/t" + names, "", 200, "error", nil},
		{"gcloud describe, gone", "GET", q + "/tasks/t" + names + "&responseView=BASIC", "", 404, "error.status", "NOT_FOUND"},
		{"gcloud buffer, no routing", "POST", q + "/tasks/:buffer" + names, "{}", 400, "error.status", "INVALID_ARGUMENT"},
		{"gcloud queues update --http-uri-override", "PATCH", q + names + "&updateMask=httpTarget.uriOverride",
			`{"name":"` + full + `","httpTarget":{"uriOverride":{"scheme":"HTTP","host":"h","port":"8080","pathOverride":{"path":"/p"},` +
				`"queryOverride":{"queryParams":"a=b"},"uriOverrideEnforceMode":"ALWAYS"}}}`, 200, "httpTarget.uriOverride.port", "8080"},
		{"gcloud buffer", "POST", q + "/tasks/:buffer" + names, "{}", 200, "task.view", "BASIC"},
		{"gcloud buffer --task-id", "POST", q + "/tasks/mine:buffer" + names, "{}", 200, "task.name", full + "/tasks/mine"},
		{"gcloud queues get-iam-policy", "POST", q + ":getIamPolicy" + names, "{}", 200, "error", nil},
		{"gcloud queues set-iam-policy", "POST", q + ":setIamPolicy" + names, `{"policy":{"bindings":[{"role":"roles/owner","members":["user:a@example.com"]}]}}`,
			200, "bindings.role", "roles/owner"},
		{"gcloud queues purge", "POST", q + ":purge" + names, "{}", 200, "state", "PAUSED"},
		{"gcloud queues resume", "POST", q + ":resume" + names, "{}", 200, "state", "RUNNING"},
		{"gcloud cmek-config update", "PATCH", base + "/cmekConfig" + names, `{"name":"projects/p/locations/us-central1/cmekConfig",` +
			`"kmsKey":"projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"}`, 200, "kmsKey", "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"},
		{"gcloud cmek-config describe", "GET", base + "/cmekConfig" + names, "", 200, "kmsKey", "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"},
		{"gcloud cmek-config update --clear-kms-key", "PATCH", base + "/cmekConfig" + names,
			`{"name":"projects/p/locations/us-central1/cmekConfig","kmsKey":""}`, 200, "kmsKey", nil},
		{"gcloud queues delete", "DELETE", q + names, "", 200, "error", nil},
		{"gcloud queues create, too soon", "POST", base + "/queues" + names, `{"name":"` + full + `"}`, 400, "error.status", "FAILED_PRECONDITION"},
		{"gcloud locations describe", "GET", base + names, "", 200, "labels", map[string]any{"cloud.googleapis.com/region": "us-central1"}},
		{"gcloud locations list", "GET", "/v2/projects/p/locations" + names + "&pageSize=100", "", 200, "error", nil},
		{"Node listLocations", "GET", "/v1/projects/p/locations" + ints, "", 200, "error", nil},
		{"Node getLocation", "GET", "/v1/projects/p/locations/us-central1" + ints, "", 200, "locationId", "us-central1"},
	} {
		got := ask(t, tc.verb, "http://"+srv.HTTPAddr()+tc.path, tc.body)
		if got.status != tc.status {
			t.Fatalf("%s: status %d, want %d: %v", tc.client, got.status, tc.status, got.doc)
		}
		t.Run(tc.client, func(t *testing.T) { assert.Equal(t, member(got.doc, tc.member), tc.want) })
	}
	assert.Equal(t, ask(t, http.MethodGet, "http://"+srv.HTTPAddr()+"/v1/projects/p/locations", "").doc["locations"] == nil, false)
}

// member returns the value at a dotted path of a JSON document, or nil. Of a list it
// takes the first item.
func member(doc any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		if list, ok := doc.([]any); ok && len(list) > 0 {
			doc = list[0]
		}
		object, ok := doc.(map[string]any)
		if !ok {
			return nil
		}
		doc = object[name]
	}
	return doc
}
