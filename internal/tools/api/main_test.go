package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
)

func TestText(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, source := range map[string]string{
		"a.go": `// Package toy is a toy.
package toy

import "context"

// Box holds.
type Box struct {
	_    [0]func()
	Name string // its name
	size int
}

// NewBox makes one.
func NewBox(name string) *Box { return &Box{Name: name, size: len(name)} }

func (b *Box) Open(ctx context.Context) error { return ctx.Err() }
func (b *Box) close()                         {}

type hidden struct{}
`,
		"b.go": `package toy

const (
	Small Size = iota + 1

	// Large is larger.
	Large
	huge
)

type Size int

type Opener interface {
	Open() error
	close()
}

func Each[T Opener](all []T, do func(T)) { helper() }
func helper()                            {}
`,
	} {
		assert.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(source), 0o600))
	}
	got, err := pkg{ImportPath: "example.com/toy", Dir: dir, GoFiles: []string{"a.go", "b.go"}}.text()
	assert.NoError(t, err)
	assert.Equal(t, string(got), `package toy // import "example.com/toy"

func Each[T Opener](all []T, do func(T))

type Box struct {
	Name string
	// contains filtered or unexported fields
}

func NewBox(name string) *Box

func (b *Box) Open(ctx context.Context) error

type Opener interface {
	Open() error
	// contains filtered or unexported methods
}

type Size int

const (
	Small Size = iota + 1
	Large
)
`)
}

func TestFileName(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"example.com/toy":         "toy.txt",
		"example.com/toy/box":     "box.txt",
		"example.com/toy/box/lid": "box-lid.txt",
	} {
		p := pkg{ImportPath: path, Name: "toy"}
		p.Module.Path = "example.com/toy"
		assert.Equal(t, p.fileName(), want)
	}
}
