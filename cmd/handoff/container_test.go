package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/brillconsulting/handoff/internal/assert"
)

// Where there is no Docker, what containers are told to run can still be run.

// withoutAddresses is the arguments of a container without those that start sets.
func withoutAddresses(t *testing.T, args []string) []string {
	t.Helper()
	for _, addr := range []string{"--grpc=0.0.0.0:8123", "--http=0.0.0.0:8124"} {
		if !slices.Contains(args, addr) {
			t.Fatalf("the arguments %q lack %s", args, addr)
		}
	}
	return slices.DeleteFunc(args, func(arg string) bool { return strings.Contains(arg, "0.0.0.0") })
}

func TestComposeFile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("compose.yaml")
	assert.NoError(t, err)
	var compose struct {
		Services map[string]struct {
			Build       struct{ Context, Dockerfile string }
			Image       string
			Command     []string
			Ports       []string
			ExtraHosts  []string `yaml:"extra_hosts"`
			Environment map[string]string
			Healthcheck struct {
				Test              []string
				Interval, Timeout string
				Retries           int
			}
		}
	}
	assert.NoError(t, yaml.Load(text, &compose, yaml.WithKnownFields()))
	page, err := os.ReadFile("../../docs/emulator.md")
	assert.NoError(t, err)
	if !strings.Contains(string(page), "<!-- cmd/handoff/compose.yaml -->\n```yaml\n"+string(text)+"```\n") {
		t.Error("docs/emulator.md shows another compose.yaml than there is")
	}
	tasks := compose.Services["tasks"]
	_, err = os.Stat("../../" + tasks.Build.Dockerfile)
	assert.NoError(t, err)
	assert.Equal(t, tasks.Command[0], "emulator")
	p := start(t, withoutAddresses(t, tasks.Command[1:])...)

	assert.Equal(t, strings.Join(tasks.Healthcheck.Test[:2], " "), "CMD /handoff")
	check := exec.Command(program, tasks.Healthcheck.Test[2:]...)
	check.Env = append(os.Environ(), "CLOUD_TASKS_EMULATOR_HOST="+p.grpc)
	out, err := check.CombinedOutput()
	if err != nil {
		t.Fatalf("the health check: %v\n%s", err, out)
	}
	_, err = p.end(t, os.Interrupt)
	assert.NoError(t, err)
	check = exec.Command(program, tasks.Healthcheck.Test[2:]...)
	check.Env = append(os.Environ(), "CLOUD_TASKS_EMULATOR_HOST="+p.grpc)
	if check.Run() == nil {
		t.Error("the health check of an emulator that has ended succeeds")
	}
}

var dockerCMD = regexp.MustCompile(`(?m)^CMD (\[.*\])$`)

func TestDockerfile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("Dockerfile")
	assert.NoError(t, err)
	match := dockerCMD.FindSubmatch(text)
	if match == nil {
		t.Fatal("no CMD")
	}
	var args []string
	assert.NoError(t, json.Unmarshal(match[1], &args))
	assert.Equal(t, args[0], "emulator")
	start(t, withoutAddresses(t, args[1:])...)
}
