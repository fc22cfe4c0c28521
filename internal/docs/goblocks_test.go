package docs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
)

// known are the packages that a fragment may use without importing them.
var known = []string{
	"context", "database/sql", "errors", "fmt", "io", "log/slog", "net/http", "os", "slices", "testing", "time",
	"cloud.google.com/go/cloudtasks/apiv2", "cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb",
	"github.com/labstack/echo/v4", "github.com/redis/go-redis/v9",
	module, module + "/admin", module + "/dashboard", module + "/dashboard/emulatorsource", module + "/emulator", module + "/handofftest", module + "/memstore", module + "/middleware", module + "/redisstore", module + "/sqlstore", module + "/steps",
}

// preludes declare the names that the fragments of a page take from its text.
var preludes = map[string]string{
	"README.md": `
		var (
			ctx    context.Context
			t      *testing.T
			rdb    redis.UniversalClient
			mailer interface{ Send(ctx context.Context, user string) error }
			router *handoff.Router
			target handoff.Target

			pool   *sql.DB
			outbox *sqlstore.Outbox
			db     *sqlstore.DB
			order  struct{ ID string }

			mux      *http.ServeMux
			contacts interface{ Update(ctx context.Context, id string, contact io.Reader) error }

			engine    interface{ Any(path string, h http.Handler) }
			gin       struct{ WrapH func(http.Handler) http.Handler }
			chiRouter interface{ Mount(string, http.Handler) }
		)

		type ChargeCard struct{ OrderID string }

		func (ChargeCard) Kind() string { return "charge-card" }`,
	"docs/dashboard.md": `
		var (
			a         *admin.Admin
			client    *handoff.Client
			e         *echo.Echo
			outbox    *sqlstore.Outbox
			rdb       redis.UniversalClient
			srv       *emulator.Server
			staffOnly func(r *http.Request) error
		)`,
	"docs/operating.md":  `var config handoff.RouterConfig`,
	"emulator/README.md": `var myHandler http.Handler`,
	"docs/sql.md": `
		type ChargeCard struct{ Account string; Amount int }
		func (ChargeCard) Kind() string { return "charge-card" }
		var (
			ctx      context.Context
			client   *handoff.Client
			db       *sqlstore.DB
			pool     *sql.DB
			router   *handoff.Router
			t        *testing.T
			verifier handoff.Verifier

			sqlitetest struct{ New func(testing.TB, string, sqlstore.Config) (*sqlstore.DB, *sql.DB) } // of another module
		)`,
	"docs/steps.md": `
		type Import struct{ URL, File string }
		func (Import) Kind() string { return "import" }
		type Part struct{ Last int64 }
		var (
			ctx      context.Context
			c        struct{ Account, Month string }
			client   *handoff.Client
			db       *sqlstore.DB
			router   *handoff.Router
			store    handoff.Store
			verifier handoff.Verifier

			t          *testing.T
			importRows func(ctx context.Context, p Import) error

			fetch func(ctx context.Context, url string) (string, error)
			read  func(file string, after int64) func(yield func(Part) bool)
			write func(ctx context.Context, part Part) error
		)`,
	"docs/production.md": `
		type Charge struct{}
		func (Charge) Kind() string { return "charge" }
		type ContactChanged struct{}
		func (ContactChanged) Kind() string { return "contact-changed" }
		var (
			charge         func(ctx context.Context, p Charge) error
			contactChanged func(ctx context.Context, p ContactChanged) error

			ctx      context.Context
			deploy   struct{ URL, Account string }
			rdb      redis.UniversalClient
			router   *handoff.Router
			server   *http.Server
			verifier handoff.Verifier

			e, e5     *echo.Echo // v5's WrapHandler is called alike
			engine    interface{ Any(path string, h http.Handler) }
			gin       struct{ WrapH func(http.Handler) http.Handler }
			chiRouter interface{ Mount(string, http.Handler) }
		)`,
}

// TestGoBlocks compiles every Go block: a whole file as it is, and fragments
// together with the others of their page and its prelude. Unused declarations
// and imports are allowed.
func TestGoBlocks(t *testing.T) {
	t.Parallel()
	fset := token.NewFileSet()
	var packages [][]*ast.File
	for _, page := range pages(t) {
		blocks, _ := split(t, page)
		fragments := []*ast.File{parse(t, fset, page+".prelude", "package p\n"+imports()+preludes[page])}
		for _, b := range blocks {
			if b.lang != "go" || shown.MatchString(b.note) {
				continue
			}
			if file := goFile(t, fset, b); strings.HasPrefix(b.text, "package ") {
				packages = append(packages, []*ast.File{file})
			} else {
				fragments = append(fragments, file)
			}
		}
		if len(fragments) > 1 {
			packages = append(packages, fragments)
		}
	}
	if len(packages) < 3 {
		t.Fatalf("only %d pages have Go blocks", len(packages))
	}
	config := types.Config{Importer: importerOf(t, fset, packages), Error: func(err error) {
		var bad types.Error
		if !errors.As(err, &bad) || !bad.Soft { // soft: declared or imported, and not used
			t.Error(err)
		}
	}}
	for _, files := range packages {
		_, _ = config.Check("p", fset, files, nil)
	}
}

// goFile parses a block and makes its positions those of its page.
func goFile(t *testing.T, fset *token.FileSet, b block) *ast.File {
	t.Helper()
	line := fmt.Sprintf("//line %s:%d\n", b.page, b.line)
	if strings.HasPrefix(b.text, "package ") {
		return parse(t, fset, "", line+b.text)
	}
	head := "package p\n" + imports()
	if file, err := parser.ParseFile(fset, "", head+line+b.text, parser.SkipObjectResolution); err == nil {
		return file
	}
	return parse(t, fset, "", head+"func _() {\n"+line+b.text+"}\n")
}

func parse(t *testing.T, fset *token.FileSet, page, text string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(fset, page, text, parser.SkipObjectResolution)
	assert.NoError(t, err)
	return file
}

func imports() string {
	text := new(strings.Builder)
	for _, p := range known {
		fmt.Fprintf(text, "import %q\n", p)
	}
	return text.String()
}

// importerOf imports the packages that the files name, as compiled by the go
// command.
func importerOf(t *testing.T, fset *token.FileSet, packages [][]*ast.File) types.Importer {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-json=ImportPath,Export", "--"}
	for _, file := range slices.Concat(packages...) {
		for _, spec := range file.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			assert.NoError(t, err)
			if !slices.Contains(args, p) {
				args = append(args, p)
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	assert.NoError(t, err)
	compiled := make(map[string]string)
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg struct{ ImportPath, Export string }
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		compiled[pkg.ImportPath] = pkg.Export
	}
	return importer.ForCompiler(fset, "gc", func(p string) (io.ReadCloser, error) {
		file, ok := compiled[p]
		if !ok || file == "" {
			return nil, fmt.Errorf("%s: not compiled", path.Base(p))
		}
		return os.Open(file)
	})
}
