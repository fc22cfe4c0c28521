// Package hello greets.
package hello

import (
	"context"
	"fmt"
)

// Greeting is a task.
type Greeting struct{ Name string }

// Kind implements handoff.Payload.
func (Greeting) Kind() string { return "greeting" }

// Greet handles it.
func Greet(_ context.Context, g Greeting) error {
	_, err := fmt.Println("hello,", g.Name)
	return err
}
