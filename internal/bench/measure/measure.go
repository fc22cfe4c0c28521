// Package measure compares costs within one run: rounds of each side in turn,
// medians of them, CPU time rather than wall time. Absolute figures depend on
// the machine and on what else it does; the relations do not, or much less.
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

// Cost is what one operation cost.
type Cost struct {
	CPU    float64 // µs of this process, user and system
	Wall   float64 // µs
	Allocs float64
}

// Rounds runs the sides in turn, each doing n operations, and returns the costs
// of each by round. Every other round goes backwards, so that what drifts
// favours no side. A first round, which warms up, is thrown away.
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

// CPU is the time that this process has used, the collector included.
func CPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Median of one figure of the costs.
func Median(costs []Cost, figure func(Cost) float64) float64 {
	values := make([]float64, len(costs))
	for i, c := range costs {
		values[i] = figure(c)
	}
	return MedianOf(values)
}

// MedianDifference is the median of the differences between two sides, round
// by round: what disturbs both sides of a round alike cancels out.
func MedianDifference(a, b []Cost, figure func(Cost) float64) float64 {
	values := make([]float64, len(a))
	for i := range a {
		values[i] = figure(a[i]) - figure(b[i])
	}
	return MedianOf(values)
}

// MedianOf values, which it sorts.
func MedianOf(values []float64) float64 {
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}

// ByCPU is the CPU time of a Cost, for the medians.
func ByCPU(c Cost) float64 { return c.CPU }

// ByWall is the wall time of a Cost, for the medians.
func ByWall(c Cost) float64 { return c.Wall }

// ByAllocs are the allocations of a Cost, for the medians.
func ByAllocs(c Cost) float64 { return c.Allocs }

// Calls makes n calls, so many at once, and returns the first error of them. At
// a rate, in calls a second, each is made at its time, or late if the callers
// cannot keep up.
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

// PeakHeap returns the most memory that the heap held, in use or freed and not
// yet returned, while run ran.
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
