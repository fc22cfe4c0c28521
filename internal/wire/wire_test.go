package wire_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/wire"
)

// TestReadRecorded reads recorded dispatches (docs/cloud-tasks.md#9.4, #11.3).
func TestReadRecorded(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		family wire.Family
		header map[string]string
		want   wire.Dispatch
	}{
		"first attempt": {
			wire.HTTP,
			map[string]string{
				"X-CloudTasks-QueueName": "emails", "X-CloudTasks-TaskName": "3083234712389712", "X-CloudTasks-TaskRetryCount": "0",
				"X-CloudTasks-TaskExecutionCount": "0", "X-CloudTasks-TaskETA": "1666670855.3296249",
			},
			wire.Dispatch{Queue: "emails", Task: "3083234712389712", ETA: time.Unix(1666670855, 329624900)},
		},
		"retry": {
			wire.HTTP,
			map[string]string{
				"X-CloudTasks-QueueName": "emails", "X-CloudTasks-TaskName": "a-b_C", "X-CloudTasks-TaskRetryCount": "5",
				"X-CloudTasks-TaskExecutionCount": "3", "X-CloudTasks-TaskETA": "1602727873.950779",
				"X-CloudTasks-TaskPreviousResponse": "302", "X-CloudTasks-TaskRetryReason": "",
			},
			wire.Dispatch{
				Queue: "emails", Task: "a-b_C", RetryCount: 5, ExecutionCount: 3, ETA: time.Unix(1602727873, 950779000),
				Retried: true, PreviousResponse: 302,
			},
		},
		"retry after nobody knows what": {
			wire.HTTP,
			map[string]string{
				"X-CloudTasks-QueueName": "emails", "X-CloudTasks-TaskName": "1", "X-CloudTasks-TaskRetryCount": "25",
				"X-CloudTasks-TaskExecutionCount": "0", "X-CloudTasks-TaskETA": "1602727873.95", "X-CloudTasks-TaskPreviousResponse": "0",
			},
			wire.Dispatch{Queue: "emails", Task: "1", RetryCount: 25, ETA: time.Unix(1602727873, 950000000), Retried: true},
		},
		"App Engine, after a timeout": {
			wire.AppEngine,
			map[string]string{
				"X-AppEngine-QueueName": "emails", "X-AppEngine-TaskName": "1", "X-AppEngine-TaskRetryCount": "1",
				"X-AppEngine-TaskExecutionCount": "1", "X-AppEngine-TaskETA": "1602727873.950779",
				"X-AppEngine-TaskPreviousResponse": "0", "X-AppEngine-TaskRetryReason": "Instance Unavailable",
			},
			wire.Dispatch{
				Queue: "emails", Task: "1", RetryCount: 1, ExecutionCount: 1, ETA: time.Unix(1602727873, 950779000),
				Retried: true, RetryReason: "Instance Unavailable",
			},
		},
		"no counts, no time": {
			wire.HTTP,
			map[string]string{"X-CloudTasks-QueueName": "emails", "X-CloudTasks-TaskName": "1"},
			wire.Dispatch{Queue: "emails", Task: "1"},
		},
		"empty counts and time": {
			wire.HTTP,
			map[string]string{
				"X-CloudTasks-QueueName": "emails", "X-CloudTasks-TaskName": "1", "X-CloudTasks-TaskRetryCount": "",
				"X-CloudTasks-TaskExecutionCount": "", "X-CloudTasks-TaskETA": "",
			},
			wire.Dispatch{Queue: "emails", Task: "1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			for name, value := range tc.header {
				h.Set(name, value) // as net/http does on arrival
			}
			got, err := tc.family.Read(h)
			assert.NoError(t, err)
			assert.Equal(t, got, tc.want)
		})
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	const queue, task, count = "X-Cloudtasks-Queuename", "X-Cloudtasks-Taskname", "X-Cloudtasks-Taskretrycount"
	for name, change := range map[string]http.Header{
		"no queue":             {queue: nil},
		"no task":              {task: nil},
		"empty queue":          {queue: {""}},
		"two queues":           {queue: {"emails", "emails"}},
		"two tasks":            {task: {"1", "2"}},
		"a path for a queue":   {queue: {"projects/p/locations/l/queues/emails"}},
		"a long queue":         {queue: {strings.Repeat("q", 101)}},
		"a long task":          {task: {strings.Repeat("1", 501)}},
		"a huge task":          {task: {strings.Repeat("1", 2<<20)}},
		"not UTF-8":            {task: {"\xff\xfe"}},
		"a look-alike letter":  {queue: {"еmails"}},
		"a space":              {queue: {"emails "}},
		"a line end":           {task: {"1\r\nX-Admin: 1"}},
		"a NUL":                {task: {"1\x00"}},
		"a negative count":     {count: {"-1"}},
		"a plus":               {count: {"+1"}},
		"a float for a count":  {count: {"1.0"}},
		"words for a count":    {count: {"one"}},
		"a huge count":         {count: {"2147483648"}},
		"an endless count":     {count: {strings.Repeat("9", 1<<16)}},
		"Arabic digits":        {count: {"١"}},
		"two counts":           {count: {"0", "25"}},
		"two execution counts": {"X-Cloudtasks-Taskexecutioncount": {"0", "0"}},
		"words for a status":   {"X-Cloudtasks-Taskpreviousresponse": {"Internal Server Error"}},
		"two statuses":         {"X-Cloudtasks-Taskpreviousresponse": {"500", "200"}},
		"a long reason":        {"X-Cloudtasks-Taskretryreason": {strings.Repeat("x", 257)}},
		"a reason not UTF-8":   {"X-Cloudtasks-Taskretryreason": {"\xff"}},
		"two reasons":          {"X-Cloudtasks-Taskretryreason": {"a", "b"}},
		"two times":            {"X-Cloudtasks-Tasketa": {"1602727873.9", "1602727873.9"}},
		"a date for a time":    {"X-Cloudtasks-Tasketa": {"2020-10-15T02:11:13Z"}},
		"a time before 1970":   {"X-Cloudtasks-Tasketa": {"-1.5"}},
		"a time by exponent":   {"X-Cloudtasks-Tasketa": {"1.6e9"}},
		"no whole seconds":     {"X-Cloudtasks-Tasketa": {".5"}},
		"two points":           {"X-Cloudtasks-Tasketa": {"1.2.3"}},
		"a time without end":   {"X-Cloudtasks-Tasketa": {"1." + strings.Repeat("0", 1<<16)}},
		"a time far away":      {"X-Cloudtasks-Tasketa": {"999999999999"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{queue: {"emails"}, task: {"1"}, count: {"0"}}
			maps.Copy(h, change)
			_, err := wire.HTTP.Read(h)
			assert.ErrorContains(t, err, "X-Cloudtasks-")
			for name, values := range change {
				assert.ErrorContains(t, err, name)
				for _, v := range values {
					if len(v) > 2 && strings.Contains(err.Error(), v) {
						t.Errorf("the error quotes the value: %v", err)
					}
				}
			}
		})
	}
}

// Read must not mix the families: App Engine removes only its own headers from
// outside requests, so the others could be forged.
func TestFamiliesAreApart(t *testing.T) {
	t.Parallel()
	h := http.Header{}
	wire.HTTP.Write(h, wire.Dispatch{Queue: "emails", Task: "1"})
	_, err := wire.AppEngine.Read(h)
	assert.ErrorContains(t, err, "missing")
}

func TestETA(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Time{
		"1602727873.950779":            time.Unix(1602727873, 950779000),
		"1666670855.3296249":           time.Unix(1666670855, 329624900),
		"1602727873":                   time.Unix(1602727873, 0),
		"1602727873.":                  time.Unix(1602727873, 0),
		"1602727873.5":                 time.Unix(1602727873, 500000000),
		"1602727873.123456789987":      time.Unix(1602727873, 123456789),
		"0":                            time.Unix(0, 0),
		"0000000001.000000":            time.Unix(1, 0),
		"99999999999.999999999":        time.Unix(99999999999, 999999999),
		"1602727873." + "000000000001": time.Unix(1602727873, 0),
	} {
		got, err := wire.ParseETA(in)
		assert.NoError(t, err)
		if !got.Equal(want) {
			t.Errorf("ParseETA(%q) = %v, want %v", in, got, want)
		}
	}
	for want, in := range map[string]time.Time{
		"1602727873.950779": time.Unix(1602727873, 950779999), // truncated, not rounded
		"0.000000":          time.Unix(0, 0),
		"0.000001":          time.Unix(0, 1000),
		"1.000000":          time.Unix(1, 0),
		"12.345678":         time.Unix(12, 345678000),
	} {
		assert.Equal(t, wire.FormatETA(in), want)
	}
}

func TestIsReserved(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"Handoff-Id": true, "handoff-anything": true, "X-CloudTasks-QueueName": true, "x-cloudtasks-": true,
		"X-APPENGINE-TaskName": true, "X-Google-Foo": true, "host": true, "Content-length": true, "USER-AGENT": true,
		"Authorization": false, "X-CloudTask": false, "X-Handoff-Id": false, "Handoff": false, "": false, "Traceparent": false,
	} {
		if got := wire.IsReserved(name); got != want {
			t.Errorf("IsReserved(%q) = %v", name, got)
		}
	}
}

// The names are used as keys of an http.Header without conversion.
func TestNamesAreCanonical(t *testing.T) {
	t.Parallel()
	names := []string{}
	for _, f := range []wire.Family{wire.HTTP, wire.AppEngine} {
		names = append(names, f.QueueName, f.TaskName, f.RetryCount, f.ExecutionCount, f.ETA, f.PreviousResponse, f.RetryReason)
	}
	full().Write(func(name, _ string) { names = append(names, name) })
	assert.Equal(t, len(names), 7+7+17)
	for _, name := range names {
		assert.Equal(t, name, http.CanonicalHeaderKey(name))
	}
}

// FuzzRead tests that Read does not panic or accept malformed text, and that what it
// reads can be written and read again unchanged.
func FuzzRead(f *testing.F) {
	f.Add("emails", "1", "0", "0", "1602727873.950779", "", "", false)
	f.Add("emails", "1", "25", "0", "1666670855.3296249", "0", "App Error", true)
	f.Add("", "\xff", "-1", "+1", "1e9", "302", "\r\n", true)
	f.Add("projects/p", "1", "2147483648", "01", ".5", "x", "", true)
	f.Fuzz(func(t *testing.T, queue, task, retries, executions, eta, status, reason string, retried bool) {
		for _, family := range []wire.Family{wire.HTTP, wire.AppEngine} {
			h := http.Header{
				family.QueueName: {queue}, family.TaskName: {task}, family.RetryCount: {retries},
				family.ExecutionCount: {executions}, family.ETA: {eta},
			}
			if retried {
				h[family.PreviousResponse], h[family.RetryReason] = []string{status}, []string{reason}
			}
			d, err := family.Read(h)
			if err != nil {
				continue
			}
			if d.Queue != queue || d.Task != task || d.RetryCount < 0 || d.ExecutionCount < 0 || d.PreviousResponse < 0 {
				t.Fatalf("read %+v from %q", d, h)
			}
			again := http.Header{}
			family.Write(again, d)
			back, err := family.Read(again)
			if eta == "" { // Write would send the year 1
				continue
			}
			assert.NoError(t, err)
			d.ETA = d.ETA.Truncate(time.Microsecond) // the precision that is written
			assert.Equal(t, back, d)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	h := http.Header{}
	wire.HTTP.Write(h, wire.Dispatch{Queue: "emails", Task: "1", ETA: time.Now(), RetryCount: 3, Retried: true, PreviousResponse: 500})
	full().Write(h.Set)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.HTTP.Read(h); err != nil {
			b.Fatal(err)
		}
		if _, err := wire.ReadStamp(h); err != nil {
			b.Fatal(err)
		}
	}
}
