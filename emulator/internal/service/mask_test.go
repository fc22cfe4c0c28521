package service

import (
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

func TestMerge(t *testing.T) {
	t.Parallel()
	parse := func(text string) *cloudtaskspb.Queue {
		q := new(cloudtaskspb.Queue)
		if err := prototext.Unmarshal([]byte(text), q); err != nil {
			t.Fatal(err)
		}
		return q
	}
	const have = `name: "q" rate_limits { max_dispatches_per_second: 1 max_burst_size: 10 max_concurrent_dispatches: 2 }
		retry_config { max_attempts: 3 max_doublings: 4 } http_target { http_method: PUT }`
	const sent = `name: "other" state: PAUSED rate_limits { max_dispatches_per_second: 9 max_burst_size: 99 }
		retry_config { max_attempts: 7 } stackdriver_logging_config { sampling_ratio: 0.5 }`
	for _, row := range []struct {
		name  string
		paths []string
		want  string
	}{
		{"a leaf", []string{"retry_config.max_attempts"}, `name: "q" rate_limits { max_dispatches_per_second: 1 max_burst_size: 10
			max_concurrent_dispatches: 2 } retry_config { max_attempts: 7 max_doublings: 4 } http_target { http_method: PUT }`},
		{"the other spelling", []string{"retryConfig.maxAttempts"}, `name: "q" rate_limits { max_dispatches_per_second: 1 max_burst_size: 10
			max_concurrent_dispatches: 2 } retry_config { max_attempts: 7 max_doublings: 4 } http_target { http_method: PUT }`},
		{"a leaf that is not set", []string{"retry_config.max_doublings"}, `name: "q" rate_limits { max_dispatches_per_second: 1
			max_burst_size: 10 max_concurrent_dispatches: 2 } retry_config { max_attempts: 3 } http_target { http_method: PUT }`},
		{"a message", []string{"retry_config"}, `name: "q" rate_limits { max_dispatches_per_second: 1 max_burst_size: 10
			max_concurrent_dispatches: 2 } retry_config { max_attempts: 7 } http_target { http_method: PUT }`},
		{"a message that is not set", []string{"http_target"}, `name: "q" rate_limits { max_dispatches_per_second: 1 max_burst_size: 10
			max_concurrent_dispatches: 2 } retry_config { max_attempts: 3 max_doublings: 4 }`},
		{"into a message that was not there", []string{"stackdriver_logging_config.sampling_ratio"}, have + ` stackdriver_logging_config { sampling_ratio: 0.5 }`},
		{"into a message that is nowhere", []string{"app_engine_routing_override.service"}, have},
		{"what only the service sets", []string{"name", "state", "purge_time", "rate_limits.max_burst_size"}, have},
		{"several", []string{"http_target", "rate_limits.max_dispatches_per_second"}, `name: "q" rate_limits { max_dispatches_per_second: 9
			max_burst_size: 10 max_concurrent_dispatches: 2 } retry_config { max_attempts: 3 max_doublings: 4 }`},
		{"none means all", nil, `name: "q" rate_limits { max_dispatches_per_second: 9 max_burst_size: 99 }
			retry_config { max_attempts: 7 } stackdriver_logging_config { sampling_ratio: 0.5 }`},
		{"a star means all", []string{"*"}, `name: "q" rate_limits { max_dispatches_per_second: 9 max_burst_size: 99 }
			retry_config { max_attempts: 7 } stackdriver_logging_config { sampling_ratio: 0.5 }`},
	} {
		got := parse(have)
		if err := merge(got, parse(sent), &fieldmaskpb.FieldMask{Paths: row.paths}, outputOnly); err != nil {
			t.Errorf("%s: %v", row.name, err)
		}
		if want := parse(row.want); !proto.Equal(got, want) {
			t.Errorf("%s:\n got %v\nwant %v", row.name, got, want)
		}
	}
	for _, path := range []string{"", "colour", "retry_config.colour", "retry_config.max_attempts.more", "retry_config.", ".name"} {
		if err := merge(parse(have), parse(sent), &fieldmaskpb.FieldMask{Paths: []string{path}}, outputOnly); err == nil {
			t.Errorf("path %q was accepted", path)
		}
	}
}

// The size at which a task is too large, counted as docs/cloud-tasks.md#8.6 does.
func TestSize(t *testing.T) {
	t.Parallel()
	const queue = "projects/p/locations/us-central1/queues/q"
	now := time.Unix(1.7e9, 123456000)
	size := func(task *cloudtaskspb.Task) int { return proto.Size(task) }
	for name, task := range map[string]*cloudtaskspb.Task{
		"HTTP": {MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: "https://worker.example/"}}},
		"App Engine": {
			DispatchDeadline: durationpb.New(time.Hour),
			MessageType: &cloudtaskspb.Task_AppEngineHttpRequest{AppEngineHttpRequest: &cloudtaskspb.AppEngineHttpRequest{
				AppEngineRouting: &cloudtaskspb.AppEngineRouting{Service: "svc"},
			}},
		},
	} {
		set := func(n int) {
			if r := task.GetHttpRequest(); r != nil {
				r.Body = make([]byte, n)
			} else {
				task.GetAppEngineHttpRequest().Body = make([]byte, n)
			}
		}
		set(maxTaskBytes - 1000)
		counted := countedTask(queue, "t", task, now, now)
		room := maxTaskBytes - size(counted)
		set(maxTaskBytes - 1000 + room)
		if err := checkSize(queue, "t", size(task), task, now, now); err != nil {
			t.Errorf("%s: a task of the greatest size: %v", name, err)
		}
		set(maxTaskBytes - 1000 + room + 1)
		if err := checkSize(queue, "t", size(task), task, now, now); err == nil {
			t.Errorf("%s: a task of one byte more was accepted", name)
		}
	}
	// Of an App Engine task's routing, only the host is counted.
	task := &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_AppEngineHttpRequest{AppEngineHttpRequest: &cloudtaskspb.AppEngineHttpRequest{
		AppEngineRouting: &cloudtaskspb.AppEngineRouting{Service: "svc"},
	}}}
	routing := countedTask(queue, "t", task, now, now).GetAppEngineHttpRequest().GetAppEngineRouting()
	if want := (&cloudtaskspb.AppEngineRouting{Host: "svc.p.uc.r.appspot.com"}); !proto.Equal(routing, want) {
		t.Errorf("counted %v, want %v", routing, want)
	}
}
