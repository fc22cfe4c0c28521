package fence_test

import (
	"reflect"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/fence"
)

// Hashes must never change: after an upgrade, records and task names from before
// it are looked up by them.
func TestNamesStay(t *testing.T) {
	t.Parallel()
	assert.Equal(t, fence.Key("id", "ABC"), "wLCbUJOqPyFbsCDplm4CQQ")
	assert.Equal(t, fence.TaskID("key", "order", "1001"), "ba68e5365878c097ae4ab7f010e29277a11637c5f1048d5d48a85b421026d3cd")
}

// Work that differs in any part is other work.
func TestWork(t *testing.T) {
	t.Parallel()
	whole := fence.Work{Project: "a", Kind: "a", Method: "a", URL: "a", Key: "a", Period: "a"}
	keys := map[string]bool{whole.FenceKey(): true, whole.TaskID(): true}
	for i := range reflect.TypeFor[fence.Work]().NumField() {
		other := whole
		reflect.ValueOf(&other).Elem().Field(i).SetString("b")
		keys[other.FenceKey()], keys[other.TaskID()] = true, true
	}
	assert.Equal(t, len(keys), 2*(1+reflect.TypeFor[fence.Work]().NumField()))
}

// An ID made by NewID is its own key; any other ID is hashed to a key.
func TestIDKey(t *testing.T) {
	t.Parallel()
	for _, id := range []string{fence.NewID(), fence.Key("redrive", "a.0")} {
		assert.Equal(t, fence.IDKey(id), id)
	}
	for _, id := range []string{"a", fence.NewID() + "A"} {
		assert.Equal(t, fence.IDKey(id), fence.Key("id", id))
	}
	if one, other := fence.NewID(), fence.NewID(); one == other {
		t.Error("two IDs are the same")
	}
}

func TestNamesDiffer(t *testing.T) {
	t.Parallel()
	names := map[string][]string{}
	for _, parts := range [][]string{{"id"}, {"id", ""}, {"id", "abc"}, {"id", "a", "bc"}, {"id", "ab", "c"}, {"key", "abc"}, {"idabc"}, {"name:id", "abc"}} {
		for _, name := range []string{fence.Key(parts[0], parts[1:]...), fence.TaskID(parts[0], parts[1:]...)} {
			if other, taken := names[name]; taken {
				t.Errorf("%q and %q are both %s", parts, other, name)
			}
			names[name] = parts
		}
	}
}
