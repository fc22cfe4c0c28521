// Package watch lets package handofftest see the deliveries of a router that it
// did not build.
package watch

// Key is the context key, in the context of a request, of a func that takes a
// handoff.Delivery. The router calls it when the delivery has ended.
type Key struct{}
