// Package simulate runs the whole system (client, emulator, routers, store and dead
// letters) in virtual time, while calls hang or lose their responses, workers die,
// and tasks are delivered twice, late or out of order. Weeks pass in milliseconds.
// A checker counts what handlers really did, without trusting the Store, and
// compares it with docs/guarantees.md.
//
// A world is generated from its seed: the fault of a call depends only on the seed,
// the call and how often it was made. The jitter of retries depends on the seed
// too. The same seed makes the same world in 99 of 100 cases. In the others, two
// timers end at the same instant of the virtual clock, and the runtime decides
// which is first (see TestASeedMakesOneWorld).
//
//	go test ./internal/simulate -run TestWorlds -first 66 -worlds 1   # the story of a seed
//	make simulate                                                     # new worlds
package simulate
