package redisstore

import "runtime"

// AwaitWaiting returns when n calls wait for the next round trip, or when one of
// them has begun a second trip because it waited too long.
func AwaitWaiting(s *Store, n int) {
	for {
		s.nodes.only.mu.Lock()
		waiting, underway := len(s.nodes.only.waiting), s.nodes.only.underway
		s.nodes.only.mu.Unlock()
		if waiting >= n || underway > 1 {
			return
		}
		runtime.Gosched()
	}
}
