// Package memstore keeps the fence and the dead letters of package handoff in
// memory. Use it in tests and local development. A service may use it if it is one
// process, and if work that was done may run again after a restart. For several
// processes, use package redisstore or sqlstore.
package memstore
