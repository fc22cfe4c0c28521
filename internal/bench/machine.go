package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// Machine describes the machine and the versions used for the measurement.
type Machine struct {
	CPU        string
	Processors int
	Go         string
	Redis      string
	Load       float64 // average of the last minute when the run began
}

func thisMachine(ctx context.Context) Machine {
	m := Machine{CPU: "unknown", Processors: runtime.NumCPU(), Go: strings.TrimPrefix(runtime.Version(), "go")}
	cpus, _ := os.ReadFile("/proc/cpuinfo") // unknown if it is not there
	for line := range strings.Lines(string(cpus)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	load, _ := os.ReadFile("/proc/loadavg")
	_, _ = fmt.Sscan(string(load), &m.Load)
	redis, _ := exec.CommandContext(ctx, "redis-server", "--version").Output()
	_, _ = fmt.Sscanf(string(redis), "Redis server v=%s", &m.Redis)
	return m
}

// busy reports whether other processes kept at least one processor busy.
func (m Machine) busy() bool { return m.Load > 1 }
