package create_test

import (
	"encoding/json"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/create"
)

// What is made in a scratch is what json.Marshal makes, whatever was made in it
// before.
func TestScratch(t *testing.T) {
	t.Parallel()
	var s create.Scratch
	for _, payload := range []any{"a long one <&> \u2028", 1, make(chan int), struct{ A []int }{[]int{1, 2}}, "", json.RawMessage("{ \"b\" :\n1 }"), json.RawMessage("{"), nil} {
		want, wantErr := json.Marshal(payload)
		got, err := s.Marshal(payload)
		assert.Equal(t, string(got), string(want))
		assert.Equal(t, err == nil, wantErr == nil)
		if wantErr != nil {
			assert.ErrorContains(t, err, wantErr.Error())
		}
	}
}
