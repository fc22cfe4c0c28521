// Package measure compares costs within one run. It runs the sides in turn, takes
// medians, and prefers CPU time to wall time. Absolute figures depend on the
// machine and its load; ratios do so much less.
package measure

import (
	"context"
	"fmt"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Cost is the cost of one operation.
type Cost struct {
	CPU    float64 // µs of this process, user and system time
	Wall   float64 // µs
	Allocs float64
}

// Rounds runs the sides in turn, each doing n operations, and returns the costs of
// each side by round. Every second round runs in reverse order, so that a drift of
// the machine favours no side. The result of a first round, for warm-up, is
// discarded.
func Rounds(rounds, n int, sides ...func(n int)) [][]Cost {
	costs := make([][]Cost, len(sides))
	for round := range rounds + 1 {
		for i := range sides {
			if round%2 == 1 {
				i = len(sides) - 1 - i
			}
			cost := once(n, sides[i])
			if round > 0 {
				costs[i] = append(costs[i], cost)
			}
		}
	}
	return costs
}

func once(n int, run func(int)) Cost {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, begun := CPU(), time.Now()
	run(n)
	wall, used := time.Since(begun), CPU()-cpu
	runtime.ReadMemStats(&after)
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(n) }
	return Cost{CPU: each(used), Wall: each(wall), Allocs: float64(after.Mallocs-before.Mallocs) / float64(n)}
}

// CPU returns the CPU time that this process has used, garbage collection included.
func CPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Median returns the median of one figure of the costs.
func Median(costs []Cost, figure func(Cost) float64) float64 {
	values := make([]float64, len(costs))
	for i, c := range costs {
		values[i] = figure(c)
	}
	return MedianOf(values)
}

// MedianDifference returns the median of the differences a-b, taken round by round:
// a disturbance of both sides of a round cancels out.
func MedianDifference(a, b []Cost, figure func(Cost) float64) float64 {
	values := make([]float64, len(a))
	for i := range a {
		values[i] = figure(a[i]) - figure(b[i])
	}
	return MedianOf(values)
}

// MedianOf returns the median of values, which it sorts.
func MedianOf(values []float64) float64 {
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}

// ByCPU returns the CPU time of a Cost, for the medians.
func ByCPU(c Cost) float64 { return c.CPU }

// ByWall returns the wall time of a Cost, for the medians.
func ByWall(c Cost) float64 { return c.Wall }

// ByAllocs returns the allocations of a Cost, for the medians.
func ByAllocs(c Cost) float64 { return c.Allocs }

// Calls makes n calls from concurrent callers, and returns how many failed with the
// first error. A rate above 0, in calls a second, spreads them evenly; calls are
// late if the callers cannot keep up.
func Calls(ctx context.Context, n, callers int, rate float64, call func(i int) error) error {
	var next, failed atomic.Int64
	var first error
	var once sync.Once
	begun := time.Now()
	var work sync.WaitGroup
	for range callers {
		work.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if rate > 0 {
					time.Sleep(time.Until(begun.Add(time.Duration(float64(i) / rate * float64(time.Second)))))
				}
				if err := call(int(i)); err != nil {
					failed.Add(1)
					once.Do(func() { first = err })
				}
			}
		})
	}
	work.Wait()
	if first != nil {
		return fmt.Errorf("%d of %d calls failed: %w", failed.Load(), n, first)
	}
	return ctx.Err()
}

// PeakHeap returns the peak size of the heap while run ran, including freed memory
// that was not yet returned to the system.
func PeakHeap(run func()) uint64 {
	runtime.GC()
	done := make(chan struct{})
	peak := make(chan uint64)
	go func() {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		var most uint64
		for {
			metrics.Read(sample)
			most = max(most, sample[0].Value.Uint64()+sample[1].Value.Uint64())
			select {
			case <-done:
				peak <- most
				return
			case <-tick.C:
			}
		}
	}()
	run()
	close(done)
	return <-peak
}
