package main

import (
	"encoding/json"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
)

// Steps are always shown, positions only if payloads may be shown. A memo of
// another package is not shown.
func TestProgressOfAKey(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		memo    string
		payload bool
		want    string
		people  string // what they see of the position
	}{
		{`{"v":1,"done":[{"n":"download","r":"secret"}],"at":{"n":"rows","r":7}}`, false, `"steps":["download"],"step":"rows"}`, "hidden: --payload shows it"},
		{`{"v":1,"done":[{"n":"download","r":"secret"}],"at":{"n":"rows","r":7}}`, true, `"steps":["download"],"step":"rows","position":7}`, "7"},
		{`{"v":1}`, true, `"state":""}`, ""},
		{`theirs`, true, `"state":""}`, ""},
	} {
		var v keyJSON
		v.progress([]byte(tc.memo), tc.payload)
		assert.Equal(t, v.shownPosition(), tc.people)
		text, err := json.Marshal(v)
		assert.NoError(t, err)
		if got := string(text); got[len(got)-min(len(got), len(tc.want)):] != tc.want {
			t.Errorf("%s is %s, want …%s", tc.memo, got, tc.want)
		}
	}
}
