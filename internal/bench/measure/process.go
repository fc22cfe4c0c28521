package measure

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPUOf is the time that another process has used, to the nanosecond: that of
// /proc/PID/stat is counted in hundredths of a second.
func CPUOf(pid int) (time.Duration, error) {
	const scheduled = 2                 // CPUCLOCK_SCHED
	clock := int32(^pid)<<3 | scheduled // as clock_getcpuclockid(3) makes them
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("measure: CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// CPUOfFamily is CPUOf a process and its children, those that have ended
// included, as PostgreSQL has one for each connection.
func CPUOfFamily(pid int) (time.Duration, error) {
	total, err := CPUOf(pid)
	if err != nil {
		return 0, err
	}
	own, err := readStat(pid)
	if err != nil {
		return 0, err
	}
	total += own.reaped
	paths, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, path := range paths {
		child, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		if s, err := readStat(child); err != nil || s.parent != pid {
			continue // of somebody else, or ended meanwhile
		}
		if used, err := CPUOf(child); err == nil {
			total += used
		}
	}
	return total, nil
}

type stat struct {
	parent int
	reaped time.Duration // CPU of children that have ended
}

// readStat reads /proc/PID/stat, proc_pid_stat(5).
func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The second field is the name in parentheses, which may hold anything.
	_, rest, _ := strings.Cut(string(text[bytes.LastIndexByte(text, ')'):]), " ")
	fields := strings.Fields(rest) // from the third
	const state = 3
	number := func(field int) int {
		n, _ := strconv.Atoi(fields[field-state]) // the kernel wrote it
		return n
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every architecture of Go
	return stat{parent: number(4), reaped: time.Duration(number(16)+number(17)) * tick}, nil
}

// Resident is the memory that a process has in RAM, in bytes.
func Resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
