package hello

import (
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
)

func TestGreet(t *testing.T) {
	kit := handofftest.New(t) // client, Cloud Tasks, router and stores, all in this process
	handoff.Handle(kit.Router, Greet)
	if _, err := kit.Client.Enqueue(t.Context(), Greeting{Name: "Ada"}); err != nil {
		t.Fatal(err)
	}
	ended := kit.Drain()
	if len(ended) != 1 || ended[0].Outcome != handoff.Done {
		t.Errorf("the dispatches ended as %+v", ended)
	}
}
