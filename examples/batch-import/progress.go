package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// progress draws a bar on a terminal; elsewhere it prints a line for every
// tenth.
type progress struct {
	out      io.Writer
	terminal bool
	total    int
	first    int // rows done when it began
	begun    time.Time
	shown    time.Time
	tenth    int
}

func newProgress(out io.Writer, total int) *progress {
	p := &progress{out: out, total: total, first: -1, begun: time.Now()}
	if f, ok := out.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

func (p *progress) show(done int) {
	if p.first < 0 {
		p.first, p.tenth = done, 10*done/p.total
	}
	switch tenth := 10 * done / p.total; {
	case p.terminal && time.Since(p.shown) > 100*time.Millisecond, p.terminal && done == p.total:
		p.shown = time.Now()
		fmt.Fprint(p.out, "\r"+p.line(done))
	case !p.terminal && tenth > p.tenth:
		p.tenth = tenth
		fmt.Fprintln(p.out, p.line(done))
	}
}

func (p *progress) end() {
	if p.terminal {
		fmt.Fprintln(p.out)
	}
}

func (p *progress) line(done int) string {
	const width = 30
	filled := width * done / p.total
	rate := float64(done-p.first) / time.Since(p.begun).Seconds()
	return fmt.Sprintf("[%s%s] %3d%%  %9s rows  %7s/s  %4.0f MB", strings.Repeat("#", filled), strings.Repeat(".", width-filled),
		100*done/p.total, number(done), number(int(rate)), float64(memory("VmRSS"))/1e6)
}

// number groups the digits of n.
func number(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func peakMemory() int { return memory("VmHWM") }

// memory returns the process's memory: the kernel's figure, or the Go runtime's
// where there is none.
func memory(field string) int {
	status, err := os.ReadFile("/proc/self/status")
	if err == nil {
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, field+":"); ok {
				kB, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
				return kB << 10
			}
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.Sys - m.HeapReleased)
}
