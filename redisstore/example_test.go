package redisstore_test

import (
	"context"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/redisstore"
)

func ExampleNew() {
	server := miniredis.NewMiniRedis() // stands for your Redis
	if err := server.Start(); err != nil {
		panic(err)
	}
	defer server.Close()

	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	defer rdb.Close()

	router, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true, // for this example only: set Verifier instead
		Store:                           redisstore.New(rdb, nil),
		DeadLetters:                     redisstore.NewDeadLetters(rdb, nil),
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(router.Shutdown(context.Background()))
	// Output: <nil>
}

// Any process that reaches the same Redis can read the letters.
func ExampleNewDeadLetters() {
	server := miniredis.NewMiniRedis() // stands for your Redis
	if err := server.Start(); err != nil {
		panic(err)
	}
	defer server.Close()

	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	defer rdb.Close()

	ctx := context.Background()
	letters := redisstore.NewDeadLetters(rdb, &redisstore.DeadLetterOptions{MaxAge: 7 * 24 * time.Hour})
	letter := handoff.DeadLetter{ID: "a1.0", Kind: "welcome-email", Payload: []byte(`{"user_id":"42"}`), BuriedAt: time.Now()}
	if err := letters.Put(ctx, letter); err != nil {
		panic(err)
	}
	page, err := letters.List(ctx, handoff.DeadLetterQuery{Kind: "welcome-email", Limit: 10})
	if err != nil {
		panic(err)
	}
	for _, l := range page.Letters {
		fmt.Println(l.ID, string(l.Payload))
	}
	// Output: a1.0 {"user_id":"42"}
}
