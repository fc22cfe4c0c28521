// Package memstore keeps the fence and the dead letters of package handoff in
// the memory of one process: for tests, for local development, and for a
// service that runs as a single process and may forget what was done when it
// restarts. Services of several processes use package redisstore.
package memstore
