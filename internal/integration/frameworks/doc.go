// Package frameworks mounts one router in net/http, chi, gin, echo v4 and
// echo v5, each with its usual middleware, and sends the same deliveries
// through all of them.
package frameworks
