package oidc_test

import (
	"strconv"
	"testing"

	"github.com/brillconsulting/handoff/internal/oidc"
)

func TestMemoryIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	var m oidc.Memory
	m.Put("used")
	for i := range 10 * oidc.Remembered {
		if !m.Has("used") {
			t.Fatalf("forgot a token in use after %d others", i)
		}
		m.Put(strconv.Itoa(i))
		if m.Len() > oidc.Remembered {
			t.Fatalf("holds %d tokens, want at most %d", m.Len(), oidc.Remembered)
		}
	}
	if last := strconv.Itoa(10*oidc.Remembered - 1); !m.Has(last) {
		t.Error("forgot the newest token")
	}
	if m.Has("0") {
		t.Error("still holds the oldest token")
	}
}
