// Package simulate runs the whole line (client, emulator, routers, store and dead
// letters) in virtual time, while calls hang or lose their responses, workers die,
// and tasks are delivered twice, late or out of turn. Weeks pass in milliseconds.
// A checker that believes nothing the Store says counts what handlers really did,
// and holds it against docs/guarantees.md.
//
// A world is made from its seed: what goes wrong with a call is drawn from the seed,
// the call and how often it was made, and so is the jitter of retries. A seed that is
// run again makes the same world in 99 of 100 cases; where two timers end at the same
// instant of the virtual clock, the runtime decides which is first
// (TestASeedMakesOneWorld).
//
//	go test ./internal/simulate -run TestWorlds -first 66 -worlds 1   # the story of a seed
//	make simulate                                                     # new worlds
package simulate
