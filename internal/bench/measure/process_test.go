package measure_test

import (
	"os"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"

	"github.com/brillconsulting/handoff/internal/bench/measure"
)

// spin uses the given amount of CPU time.
func spin(t *testing.T, much time.Duration) {
	t.Helper()
	sum := 0
	for until := measure.CPU() + much; measure.CPU() < until; {
		sum++
	}
}

func TestCPUOfIsThatOfTheProcess(t *testing.T) {
	before, err := measure.CPUOf(os.Getpid())
	assert.NoError(t, err)
	used := measure.CPU()
	spin(t, 50*time.Millisecond)
	after, err := measure.CPUOf(os.Getpid())
	assert.NoError(t, err)
	used = measure.CPU() - used
	// The two clocks are not read at the same moment.
	if difference := (after - before - used).Abs(); difference > 40*time.Millisecond {
		t.Errorf("CPUOf says %v, getrusage %v", after-before, used)
	}
}

func TestCPUOfNobody(t *testing.T) {
	_, err := measure.CPUOf(1 << 23)
	assert.ErrorContains(t, err, "8388608")
}

func TestResident(t *testing.T) {
	bytes, err := measure.Resident(os.Getpid())
	assert.NoError(t, err)
	assert.Equal(t, bytes > 1<<20, true)
}
