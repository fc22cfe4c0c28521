package recipes

import (
	"context"
	"sync"

	"github.com/brillconsulting/handoff"
)

// Tenanted is implemented by the payloads of one tenant's work.
type Tenanted interface{ TenantID() string }

// PerTenant returns middleware that runs at most limit tasks of a tenant at a time
// in this process. Others are busy: they are retried, and count no attempt.
func PerTenant(limit int) handoff.Middleware {
	var mu sync.Mutex
	running := make(map[string]int)
	enter := func(tenant string, by int) bool {
		mu.Lock()
		defer mu.Unlock()
		if running[tenant]+by > limit {
			return false
		}
		if running[tenant] += by; running[tenant] == 0 {
			delete(running, tenant)
		}
		return true
	}
	return func(next handoff.Handler) handoff.Handler {
		return func(ctx context.Context) error {
			p, ok := handoff.PayloadFromContext(ctx).(Tenanted)
			if !ok {
				return next(ctx)
			}
			if !enter(p.TenantID(), 1) {
				return handoff.ErrBusy
			}
			defer enter(p.TenantID(), -1)
			return next(ctx)
		}
	}
}
