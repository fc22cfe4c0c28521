package main

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// Machine is what the figures were measured on, and with.
type Machine struct {
	CPU        string
	Processors int
	Kernel     string
	Go         string
	Redis      string
	Modules    map[string]string
	Load       float64 // average of the last minute when the run began
}

func thisMachine(ctx context.Context) Machine {
	m := Machine{
		CPU:        field("/proc/cpuinfo", "model name"),
		Processors: runtime.NumCPU(),
		Kernel:     kernel(),
		Go:         strings.TrimPrefix(runtime.Version(), "go"),
		Load:       loadAverage(),
		Redis:      version(ctx, "redis-server", "--version"),
		Modules:    make(map[string]string),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			switch dep.Path {
			case "github.com/hibiken/asynq", "github.com/redis/go-redis/v9", "github.com/labstack/echo/v4":
				m.Modules[dep.Path] = dep.Version
			}
		}
	}
	return m
}

// field of a file of /proc that has a name and a value on each line.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func firstWord(path string) string {
	text, err := os.ReadFile(path)
	word, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if err != nil || word == "" {
		return "unknown"
	}
	return word
}

// version is the first number in what a program says of itself.
func version(ctx context.Context, program, flag string) string {
	said, err := exec.CommandContext(ctx, program, flag).Output()
	if err != nil {
		return ""
	}
	for word := range strings.FieldsSeq(string(said)) {
		word = strings.TrimPrefix(word, "v=")
		if word[0] >= '0' && word[0] <= '9' {
			return word
		}
	}
	return ""
}

func loadAverage() float64 {
	load, err := strconv.ParseFloat(firstWord("/proc/loadavg"), 64)
	if err != nil {
		return 0
	}
	return load
}

// busy says that others had work for a processor, and so the figures too.
func (m Machine) busy() bool { return m.Load > 1 }

// kernel is its version without what a distribution adds.
func kernel() string {
	release, _, _ := strings.Cut(firstWord("/proc/sys/kernel/osrelease"), "-")
	return release
}
