package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff/redisstore"
)

// lettersTag follows the prefix in every key of redisstore.DeadLetters.
const lettersTag = "{dead}:"

// defaultPrefix is redisstore's.
const defaultPrefix = "handoff:"

// prefixSearch is how long other prefixes are looked for: a scan reads every key.
const prefixSearch = 5 * time.Second

// otherPrefixes returns how many letters there are below each prefix other than
// this one, as a list such as "3 below --prefix staging:". It is "" if there are
// none, or too many keys to find them in time.
func otherPrefixes(ctx context.Context, rdb redis.UniversalClient, own string) string {
	ctx, cancel := context.WithTimeout(ctx, prefixSearch)
	defer cancel()
	found := make(map[string]bool)
	var mu sync.Mutex
	scan := func(ctx context.Context, node *redis.Client) error {
		keys := node.Scan(ctx, 0, "*"+lettersTag+"*", 1000).Iterator()
		for keys.Next(ctx) {
			prefix, _, _ := strings.Cut(keys.Val(), lettersTag)
			mu.Lock()
			found[prefix] = true
			mu.Unlock()
		}
		return keys.Err()
	}
	switch rdb := rdb.(type) {
	case *redis.ClusterClient:
		_ = rdb.ForEachMaster(ctx, scan)
	case *redis.Client:
		_ = scan(ctx, rdb)
	}
	var all []string
	for _, prefix := range slices.Sorted(maps.Keys(found)) {
		counts, err := redisstore.NewDeadLetters(rdb, &redisstore.DeadLetterOptions{Prefix: prefix}).CountByKind(ctx)
		letters := 0
		for _, n := range counts {
			letters += n
		}
		if err == nil && letters > 0 && prefix != cmp.Or(own, defaultPrefix) {
			all = append(all, fmt.Sprintf("%s below --prefix %s", count(letters, "dead letter"), prefix))
		}
	}
	return strings.Join(all, ", ")
}
