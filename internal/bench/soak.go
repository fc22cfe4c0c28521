package main

import (
	"context"
	"fmt"

	"github.com/brillconsulting/handoff/internal/bench/measure"
)

// looks is how often the memory of the worker is looked at during the soak.
const looks = 20

// soaking keeps 500 deliveries in flight for long and looks at the worker's
// memory. Redis is emptied at each look: it is not what is measured here.
func (l *lab) soaking(ctx context.Context) (*Soak, error) {
	if err := l.needRedis(ctx); err != nil {
		return nil, err
	}
	if err := l.needTokens(); err != nil {
		return nil, err
	}
	r, err := l.receiver(ctx, setup{Variant: withHandoff, Kinds: 2}) // not the one whose profile is taken
	if err != nil {
		return nil, err
	}
	s := &Soak{InFlight: 500, Length: l.soak}
	load, err := openLoad(ctx, r.first.Addr, s.InFlight, newDispatches(1, body(newInvoice()), l.tokens[:1], &r.next))
	if err != nil {
		return nil, err
	}
	defer load.close()
	before, err := r.ask(order{Do: "tell"})
	if err != nil {
		return nil, err
	}
	l.progress(fmt.Sprintf("soak, %d in flight for %s", s.InFlight, l.soak))
	for range looks {
		done, err := load.run(ctx, l.soak/looks, 1<<40)
		if err != nil {
			s.Error = err.Error()
			return s, nil
		}
		s.Tasks += done.tasks
		resident, err := measure.Resident(r.pid())
		if err != nil {
			return nil, err
		}
		s.Resident = append(s.Resident, resident)
		if err := l.empty(ctx); err != nil {
			return nil, err
		}
	}
	after, err := r.ask(order{Do: "tell"})
	s.Allocated = float64(after.Allocated-before.Allocated) / float64(s.Tasks)
	return s, err
}

// grown is how much larger the worker was in the last quarter than in the
// second; the first is for filling pools.
func (s *Soak) grown() float64 {
	quarter := len(s.Resident) / 4
	if quarter == 0 {
		return 0
	}
	mean := func(some []int64) float64 {
		var sum int64
		for _, b := range some {
			sum += b
		}
		return float64(sum) / float64(len(some))
	}
	return mean(s.Resident[3*quarter:])/mean(s.Resident[quarter:2*quarter]) - 1
}
