// Package watch lets package handofftest see the deliveries of a router that it
// did not build.
package watch

// Key is a context key. Its value in the context of a request is a
// func(handoff.Delivery), which the router calls when the delivery has ended.
type Key struct{}

// Late is a context key. Its value in the context of a request is a func() bool,
// which reports whether Held.Late is true whatever the time.
type Late struct{}
