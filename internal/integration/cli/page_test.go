package cli_test

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
)

var update = flag.Bool("update", false, "write what the commands of docs/operating.md print into the page")

// step is one command in the page's transcript.
type step struct {
	first, last int    // its lines, from its prompt up to the next
	command     string // with continuation lines
	want        string // its output as on the page
}

// TestOperatingPage starts the servers of the page, runs its commands in one
// shell, and compares what they print with what the page says.
//
// It is not parallel, because other tests could take the ports that it has found
// free.
func TestOperatingPage(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil && os.Getenv("HANDOFF_REQUIRE_REDIS") == "" {
		t.Skipf("the page needs a Redis: %v", err)
	}
	page := filepath.Join(root, "docs/operating.md")
	text, err := os.ReadFile(page)
	assert.NoError(t, err)
	lines := strings.Split(string(text), "\n")
	servers, steps := parse(t, lines)
	here := newPlace(t, string(text))
	for _, s := range servers {
		here.serve(t, s)
	}
	sh := newShell(t, here.dir)
	for i := range steps {
		s := &steps[i]
		got := sh.run(t, here.actual(s.command))
		// What the command asks for may not have happened yet.
		wait := maxWait
		if *update {
			wait = 2 * time.Second
		}
		for end := time.Now().Add(wait); !here.agree(s.want, got) && asks.MatchString(s.command) && time.Now().Before(end); {
			time.Sleep(50 * time.Millisecond)
			got = sh.run(t, here.actual(s.command))
		}
		if *update {
			here.learn(s.want, got)
			s.want = here.asWritten(got)
			continue
		}
		if !here.agree(s.want, got) {
			t.Fatalf("docs/operating.md:%d: %s\nprints\n%s\nthe page says\n%s\n(go test -run TestOperatingPage -update writes what it prints)", s.first+1, s.command, got, s.want)
		}
		here.learn(s.want, got)
	}
	for _, m := range says.FindAllStringSubmatch(string(text), -1) {
		assert.Eventually(t, maxWait, func() bool { return here.said(t, m[1]) }, "a server to say "+m[1])
	}
	if *update {
		rewrite(t, page, lines, steps)
	}
}

// says matches the page's statements of what a server prints.
var says = regexp.MustCompile("terminal says `(.+?)`")

// asks matches commands that change nothing.
var asks = regexp.MustCompile(`^handoff \w+ (list|describe|show)`)

// parse returns the servers that the page starts, and its transcript.
func parse(t *testing.T, lines []string) (servers []string, steps []step) {
	t.Helper()
	block := ""
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "```"):
			block = strings.TrimPrefix(line, "```")
		case block == "sh":
			servers = append(servers, line)
		case block != "console":
		case strings.HasPrefix(line, "$ "):
			steps = append(steps, step{first: i, last: i + 1, command: line[2:]})
		default:
			s := &steps[len(steps)-1]
			s.last++
			if more, ok := strings.CutPrefix(line, "> "); ok && s.want == "" {
				s.command += "\n" + more
			} else {
				s.want += line + "\n"
			}
		}
	}
	if len(servers) != 3 || len(steps) < 20 {
		t.Fatalf("the page has %d servers and %d commands", len(servers), len(steps))
	}
	return servers, steps
}

// place is where the page is run: a folder, with ports and IDs other than those on
// the page.
type place struct {
	dir   string
	pairs [][2]string // text on the page, and its counterpart here
}

var port = regexp.MustCompile(`(?:127\.0\.0\.1:|--port )(\d{4,5})\b`)

func newPlace(t *testing.T, page string) *place {
	t.Helper()
	p := &place{dir: t.TempDir()}
	for _, m := range port.FindAllStringSubmatch(page, -1) {
		if p.actual("--port "+m[1]) != "--port "+m[1] {
			continue // it is known
		}
		addr, err := freeAddr()
		assert.NoError(t, err)
		_, free, _ := net.SplitHostPort(addr)
		p.pairs = append(p.pairs, [2]string{"127.0.0.1:" + m[1], "127.0.0.1:" + free}, [2]string{"--port " + m[1], "--port " + free})
	}
	return p
}

// actual translates a command of the page to this place.
func (p *place) actual(s string) string {
	for _, pair := range p.pairs {
		s = strings.ReplaceAll(s, pair[0], pair[1])
	}
	return s
}

// asWritten translates what a command printed here to the page.
func (p *place) asWritten(s string) string {
	for _, pair := range p.pairs {
		s = strings.ReplaceAll(s, pair[1], pair[0])
	}
	return s
}

// id matches IDs that the library, the service or Redis has generated.
var id = regexp.MustCompile(`\b[A-Z2-7]{22}\b|\b[0-9a-f]{64}\b`)

// learn records which ID here stands for which ID on the page.
func (p *place) learn(page, got string) {
	ids := id.FindAllString(got, -1)
	for i, made := range id.FindAllString(page, -1) {
		if i < len(ids) {
			p.pairs = append(p.pairs, [2]string{made, ids[i]})
		}
	}
}

// differs lists output that differs from run to run.
var differs = []struct {
	pattern *regexp.Regexp
	as      string
}{
	{id, "ID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z`), "TIME"},
	{regexp.MustCompile(`\bnow\b|\b\d+[smhd] ago|\bin \d+[smhd]\b`), "AGE"},
	{regexp.MustCompile(`\b\d{13}\b`), "MILLISECONDS"},
	{regexp.MustCompile(`\d+ in the last minute|"executed_last_minute":\d+`), "EXECUTED"},
	{regexp.MustCompile(`(?m) {2,}| +$`), " "},
}

// agree reports whether a command printed what the page says.
func (p *place) agree(page, got string) bool {
	got = p.asWritten(got)
	for _, d := range differs {
		page, got = d.pattern.ReplaceAllString(page, d.as), d.pattern.ReplaceAllString(got, d.as)
	}
	return page == got
}

// serve starts a server until the end of the test.
func (p *place) serve(t *testing.T, command string) {
	t.Helper()
	command = p.actual(command)
	cmd := exec.CommandContext(t.Context(), "bash", "-c", "exec "+command)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "PATH="+environment("")["PATH"])
	log, err := os.CreateTemp(p.dir, "*.log")
	assert.NoError(t, err)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = maxWait
	assert.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Wait()
		_ = log.Close()
		if said, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s\n%s", command, said)
		}
	})
	assert.NoError(t, listens("127.0.0.1:"+port.FindStringSubmatch(command)[1]))
}

// said reports whether a server has printed the text.
func (p *place) said(t *testing.T, something string) bool {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(p.dir, "*.log"))
	assert.NoError(t, err)
	for _, name := range logs {
		said, err := os.ReadFile(name)
		assert.NoError(t, err)
		if strings.Contains(string(said), something) {
			return true
		}
	}
	return false
}

// shell is one bash for all commands, so that exported variables stay set.
type shell struct {
	in  io.Writer
	out *bufio.Reader
}

// endMark follows the output of each command. No command prints it.
const endMark = "\x1e"

func newShell(t *testing.T, dir string) *shell {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "--norc")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + environment("")["PATH"], "HOME=" + dir}
	in, err := cmd.StdinPipe()
	assert.NoError(t, err)
	out, err := cmd.StdoutPipe()
	assert.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	assert.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &shell{in, bufio.NewReader(out)}
}

// run runs a command without input and returns what it printed.
func (s *shell) run(t *testing.T, command string) string {
	t.Helper()
	_, err := fmt.Fprintf(s.in, "{ %s\n} </dev/null; printf '\\x1e'\n", command)
	assert.NoError(t, err)
	printed, err := s.out.ReadString(endMark[0])
	if err != nil {
		t.Fatal(errors.Join(fmt.Errorf("%s: printed %q", command, printed), err))
	}
	return strings.TrimSuffix(printed, endMark)
}

// rewrite replaces the output on the page by what the commands printed.
func rewrite(t *testing.T, page string, lines []string, steps []step) {
	t.Helper()
	var out []string
	at := 0
	for _, s := range steps {
		out = append(out, lines[at:s.first]...)
		out = append(out, lines[s.first:s.first+1+strings.Count(s.command, "\n")]...)
		if s.want != "" {
			out = append(out, strings.TrimSuffix(s.want, "\n"))
		}
		at = s.last
	}
	text := strings.Join(append(out, lines[at:]...), "\n")
	assert.NoError(t, os.WriteFile(page, []byte(text), 0o600))
}
