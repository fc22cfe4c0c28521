package main

import (
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
)

func TestCounts(t *testing.T) {
	t.Parallel()
	c := counts{lines: make(map[string]int)}
	long := "package p\n\nfunc f() {\n" + strings.Repeat("\t_ = 0\n", functionMax-1) + "}\n"
	assert.NoError(t, c.add("router.go", []byte("package p\n\nconst A, b = 1, 2\n\nvar C int //"+"nolint:x // why\n\ntype D int\n\nfunc (D) Method() {}\n\nfunc E() {}\n")))
	assert.NoError(t, c.add("middleware/log.go", []byte(long)))
	assert.NoError(t, c.add("emulator/x.go", []byte("package p\n"+strings.Repeat("//\n", fileMax))))
	assert.NoError(t, c.add("emulator/conformance/x.go", []byte("package p\n")))
	assert.NoError(t, c.add("router_test.go", []byte(long)))
	assert.Equal(t, strings.Join(c.exported, " "), "A C D E")
	assert.Equal(t, c.nolint, 1)
	assert.Equal(t, c.lines["library"], 11+63)
	assert.Equal(t, c.lines["products"], fileMax+1)
	assert.Equal(t, c.lines["laboratory"], 1)
	assert.Equal(t, c.lines["tests"], 63)
	assert.Equal(t, len(c.problems), 2)
	assert.ErrorContains(t, errorOf(c.problems[0]), "f has 61 lines")
	assert.ErrorContains(t, errorOf(c.problems[1]), "501 lines")
}

type errorOf string

func (e errorOf) Error() string { return string(e) }
