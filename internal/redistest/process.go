package redistest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
)

// process is a running redis-server and its watchdog. The watchdog ends the server if
// the test process dies without running its cleanups, as after a test timeout.
type process struct {
	server, watchdog *exec.Cmd
	lifeline         io.Closer     // the watchdog's stdin, which closes when the test process dies
	exited           chan struct{} // closed when the server has ended and been reaped
}

func startProcess(logPath, bin string, args ...string) (*process, error) {
	log, err := os.Create(logPath)
	if err != nil {
		return nil, fmt.Errorf("redistest: %w", err)
	}
	defer log.Close() // the child has its own descriptor

	p := &process{exited: make(chan struct{})}
	p.server = exec.Command(bin, args...)
	p.server.Stdout, p.server.Stderr = log, log
	if err := p.server.Start(); err != nil {
		return nil, fmt.Errorf("redistest: start redis-server: %w", err)
	}
	go func() {
		_ = p.server.Wait() // the log says how it ended
		close(p.exited)
	}()

	p.watchdog = exec.Command("sh", "-c", `read _; kill -9 "$0"`, strconv.Itoa(p.server.Process.Pid))
	if p.lifeline, err = p.watchdog.StdinPipe(); err == nil {
		err = p.watchdog.Start()
	}
	if err != nil {
		_ = p.server.Process.Kill()
		<-p.exited
		return nil, fmt.Errorf("redistest: start the watchdog: %w", err)
	}
	return p, nil
}

// kill ends both. The watchdog goes first, because once the server is reaped, another
// process may get its ID.
func (p *process) kill() {
	_ = p.watchdog.Process.Kill()
	_ = p.watchdog.Wait()       // closes the lifeline too
	_ = p.server.Process.Kill() // fails only if it has already ended
	<-p.exited
}
