package cli_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/redisstore"
	"github.com/creack/pty"
	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/testscript"
)

// maxWait is long enough for a loaded machine.
const maxWait = 30 * time.Second

// await PATTERN PROGRAM ARG... runs the program repeatedly until its stdout
// matches.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: [!] await PATTERN PROGRAM ARG...")
	}
	pattern, err := regexp.Compile(`(?m)` + args[0])
	ts.Check(err)
	for end := time.Now().Add(maxWait); ; time.Sleep(50 * time.Millisecond) {
		ts.Check(ts.Exec(args[1], args[2:]...))
		out := ts.ReadFile("stdout")
		if pattern.MatchString(out) != neg {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("after %s still:\n%s", maxWait, out)
		}
	}
}

// bury FLAG... ID... stores dead letters as a worker would.
func bury(ts *testscript.TestScript, neg bool, args []string) {
	flags := flag.NewFlagSet("bury", flag.ContinueOnError)
	kind := flags.String("kind", "welcome-email", "")
	queue := flags.String("queue", "emails", "")
	problem := flags.String("error", "no such user", "")
	payload := flags.String("payload", `{"user_id":"42"}`, "")
	age := flags.Duration("age", time.Minute, "")
	prefix := flags.String("prefix", "", "")
	many := flags.Int("many", 1, "letters ID-0, ID-1 and so on")
	if err := flags.Parse(args); err != nil || neg || flags.NArg() == 0 {
		ts.Fatalf("usage: bury FLAG... ID...: %v", err)
	}
	options, err := redis.ParseURL(ts.Getenv("REDIS_URL"))
	ts.Check(err)
	rdb := redis.NewClient(options)
	defer rdb.Close()
	// These workers keep letters for a year.
	store := redisstore.NewDeadLetters(rdb, &redisstore.DeadLetterOptions{Prefix: *prefix, MaxAge: 365 * 24 * time.Hour})
	for _, id := range flags.Args() {
		for i := range *many {
			letterID := id
			if *many > 1 {
				letterID = fmt.Sprintf("%s-%d", id, i)
			}
			ts.Check(store.Put(context.Background(), handoff.DeadLetter{
				ID: letterID, Task: "task-of-" + letterID, Queue: *queue, Kind: *kind, Target: "http://worker.example.com/tasks/" + *kind,
				Header:  map[string][]string{"X-Api-Key": {"hunter2"}, "Content-Type": {"application/json"}},
				Payload: []byte(*payload), Reasons: []handoff.Reason{handoff.ReasonPermanent}, Attempts: 1,
				FirstAt: time.Now().Add(-*age - time.Minute), BuriedAt: time.Now().Add(-*age), LastErr: *problem,
			}))
		}
	}
}

// mailer starts a worker at $WORKER, with the template $WORK/welcome.tmpl. It
// writes what it sends to $WORK/sent.
func mailer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: mailer")
	}
	addr, err := freeAddr()
	ts.Check(err)
	sent, err := os.Create(ts.MkAbs("sent"))
	ts.Check(err)
	keys := "http://" + ts.Value(serverKey{}).(*emulator.Server).HTTPAddr() + "/oauth2/v3/certs"
	cmd := exec.Command(filepath.Join(programs, "mailer"),
		"-addr", addr, "-redis", ts.Getenv("REDIS_URL"), "-keys", keys, "-template", ts.MkAbs("welcome.tmpl"))
	cmd.Stdout = sent
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = sent.Close()
	})
	ts.Check(listens(addr))
	ts.Setenv("WORKER", "http://"+addr+"/tasks")
}

// tty CODE INPUT PROGRAM ARG... runs the program on a terminal, types INPUT and
// checks the exit code. What the terminal showed is then in $WORK/tty.
func tty(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: tty CODE INPUT PROGRAM ARG...")
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(programs, args[2]), args[3:]...)
	cmd.Dir = ts.MkAbs(".")
	for name, value := range environment(ts.Getenv("CLOUD_TASKS_EMULATOR_HOST")) {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Env = append(cmd.Env, "TERM=xterm", "REDIS_URL="+ts.Getenv("REDIS_URL"), "NO_COLOR="+ts.Getenv("NO_COLOR"))
	terminal, err := pty.Start(cmd)
	ts.Check(err)
	defer terminal.Close()
	if args[1] != "" {
		_, err = io.WriteString(terminal, args[1]+"\n")
		ts.Check(err)
	}
	var shown strings.Builder
	_, _ = io.Copy(&shown, terminal) // ends with EIO, as terminals do
	ts.Check(os.WriteFile(ts.MkAbs("tty"), []byte(strings.ReplaceAll(shown.String(), "\r\n", "\n")), 0o600))
	ts.Logf("[tty]\n%q", shown.String())
	ts.Check(codeIs(args[0], cmd.Wait()))
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// listens waits until a server listens at addr.
func listens(addr string) error {
	for end := time.Now().Add(maxWait); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(end) {
			return err
		}
	}
}
