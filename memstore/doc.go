// Package memstore keeps the fence and the dead letters of package handoff in
// memory: for tests, for local development, and for a service of one process
// that may forget what was done when it restarts. For several processes use
// package redisstore.
package memstore
