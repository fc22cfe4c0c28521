package redisstore

import "runtime"

// AwaitWaiting returns when so many calls wait for the next round trip, or one of
// them has begun another because it waited for too long.
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
