package emulator_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// generator makes random messages. In most of them, the polite ones, each value is
// valid alone, so that many calls succeed. The others hold anything.
type generator struct {
	rng    *rand.Rand
	worker string // a URL that responds

	polite bool
	queue  string // the queue that the names of the message are in
}

// begin decides whether the next message is polite, and its queue.
func (g *generator) begin() {
	g.polite = g.rng.IntN(4) > 0
	g.queue = fmt.Sprintf("projects/p/locations/l/queues/q%d", g.rng.IntN(6))
}

func (g *generator) mostly() bool { return g.rng.IntN(20) > 0 }

func (g *generator) pick(of ...string) string { return of[g.rng.IntN(len(of))] }

// one picks a sensible value, or any if the message is not polite.
func one[T any](g *generator, sensible []T, others ...T) T {
	if g.polite {
		return sensible[g.rng.IntN(len(sensible))]
	}
	if i := g.rng.IntN(len(sensible) + len(others)); i < len(others) {
		return others[i]
	}
	return sensible[g.rng.IntN(len(sensible))]
}

// name is a resource name for a field.
func (g *generator) name(field protoreflect.FieldDescriptor) string {
	task := fmt.Sprintf("%s/tasks/t%d", g.queue, g.rng.IntN(5))
	if !g.polite {
		return g.pick(g.queue, task, place, place+"/cmekConfig", "projects/p", g.queue+"/tasks", "", "x", "projects//locations//queues/", "a%2Fb")
	}
	message := string(field.Parent().Name())
	switch {
	case strings.Contains(message, "Cmek"):
		return place + "/cmekConfig"
	case field.Name() == "parent" && (message == "ListQueuesRequest" || message == "CreateQueueRequest"):
		return place
	case field.Name() == "names" || message == "Task" || strings.HasSuffix(message, "TaskRequest") && field.Name() == "name":
		return task
	}
	return g.queue
}

const place = "projects/p/locations/l"

func (g *generator) fill(m protoreflect.Message, depth int) {
	switch m.Descriptor().FullName() {
	case "google.protobuf.Duration":
		g.seconds(m, one(g, []int64{0, 1, 15, 20, 600, 3600, 864000}, -1, math.MaxInt64))
		return
	case "google.protobuf.Timestamp":
		now := time.Now().Unix()
		g.seconds(m, one(g, []int64{0, now, now + 1, now + 3600}, now+1e9, -1, math.MinInt64))
		return
	case "google.protobuf.FieldMask":
		paths := m.Mutable(m.Descriptor().Fields().ByName("paths")).List()
		for range g.rng.IntN(3) {
			paths.Append(protoreflect.ValueOfString(one(g, []string{"rate_limits", "retry_config.max_attempts", "http_target", "task_ttl", "stats"}, "state", "name", "*", "x.y", "")))
		}
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !g.wants(field, depth) {
			continue
		}
		switch {
		case field.IsMap():
			for range g.rng.IntN(3) {
				m.Mutable(field).Map().Set(g.value(field.MapKey()).MapKey(), g.value(field.MapValue()))
			}
		case field.IsList():
			list := m.Mutable(field).List()
			for range 1 + g.rng.IntN(3) {
				if field.Message() == nil {
					list.Append(g.value(field))
					continue
				}
				item := list.NewElement()
				g.fill(item.Message(), depth+1)
				list.Append(item)
			}
		case field.Message() != nil:
			g.fill(m.Mutable(field).Message(), depth+1)
		default:
			m.Set(field, g.value(field))
		}
	}
}

// wants reports whether a field is set. A polite message has the names that it
// needs and little of the rest.
func (g *generator) wants(field protoreflect.FieldDescriptor, depth int) bool {
	switch {
	case depth > 6:
		return false
	case !g.polite:
		return g.rng.IntN(3) > 0
	case field.Name() == "names", field.Name() == "requests", field.Name() == "parent", field.Name() == "task",
		field.Name() == "http_request", field.Name() == "url", field.Name() == "service_account_email":
		return true
	case depth == 0 && !field.IsList():
		return true
	case field.Name() == "name":
		return field.Parent().Name() != "Task" || g.rng.IntN(2) == 0
	}
	return g.rng.IntN(5) == 0
}

// seconds sets a Duration or a Timestamp, now and then with impossible nanos.
func (g *generator) seconds(m protoreflect.Message, n int64) {
	fields := m.Descriptor().Fields()
	m.Set(fields.ByName("seconds"), protoreflect.ValueOfInt64(n))
	m.Set(fields.ByName("nanos"), protoreflect.ValueOfInt32(one(g, []int32{0, 1000, 123456789}, -1, math.MaxInt32)))
}

// value is a value of a scalar field.
func (g *generator) value(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(g.rng.IntN(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(one(g, []protoreflect.EnumNumber{0, 1, 2}, 3, 7, 99, -1))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(one(g, []int32{0, 1, 2, 10}, 500, -1, -2, math.MaxInt32, math.MinInt32))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(one(g, []int64{0, 80, 443}, -1, math.MaxInt64))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(one(g, []float64{0, 0.5, 1, 100, 500}, 0.01, -1, 501, math.NaN(), math.Inf(1), math.SmallestNonzeroFloat64))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(strings.Repeat("x", g.rng.IntN(200))))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(g.text(field))
	default:
		return field.Default()
	}
}

func (g *generator) text(field protoreflect.FieldDescriptor) string {
	switch field.Name() {
	case "name", "names", "parent", "resource":
		return g.name(field)
	case "url":
		return one(g, []string{g.worker, g.worker + "/a?b=c"}, "http://", "http://%zz", "ftp://x", "", "https://127.0.0.1:1/")
	case "relative_uri":
		return one(g, []string{"/", "/x?y=1", ""}, "x", "/a b")
	case "service_account_email":
		return one(g, []string{"a@p.iam.gserviceaccount.com"}, "", "\x00")
	case "request_id":
		return one(g, []string{fmt.Sprintf("%08x-0000-4000-8000-000000000000", g.rng.IntN(1e6))}, "x")
	case "filter", "page_token":
		return one(g, []string{""}, "state=PAUSED", "(", "x")
	}
	return one(g, []string{"x", "X-Header"}, "", "Content-Length", "Host", "\x00", "ü", "a b", strings.Repeat("y", 3000))
}
