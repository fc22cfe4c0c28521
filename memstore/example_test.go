package memstore_test

import (
	"context"
	"fmt"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/memstore"
)

// A Router makes these calls itself. The example shows their results.
func Example() {
	ctx := context.Background()
	store := memstore.New()
	first := handoff.Lease{Key: "order-7", Owner: "delivery-1", TTL: 30 * time.Second, Window: time.Hour}
	second := first
	second.Owner = "delivery-2"

	claim, _ := store.Claim(ctx, first)
	fmt.Println("acquired:", claim.Status == handoff.ClaimAcquired, "attempt:", claim.Attempt)

	claim, _ = store.Claim(ctx, second)
	fmt.Println("busy:", claim.Status == handoff.ClaimBusy)

	fmt.Println("not yours:", store.Complete(ctx, second))
	fmt.Println("yours:", store.Complete(ctx, first))

	claim, _ = store.Claim(ctx, second)
	fmt.Println("done:", claim.Status == handoff.ClaimDone)
	// Output:
	// acquired: true attempt: 1
	// busy: true
	// not yours: memstore: complete: handoff: lease lost
	// yours: <nil>
	// done: true
}
