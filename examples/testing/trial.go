// Package trial reminds users on the last day of their trial. Its tests show
// four ways to test; run them with
//
//	go test -v ./examples/testing
package trial

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/brillconsulting/handoff"
)

// Ending is the reminder that a trial is about to end.
type Ending struct {
	UserID string `json:"user_id"`
}

// Kind implements handoff.Payload.
func (Ending) Kind() string { return "trial-ending" }

// Policy allows three attempts, the first two an hour apart.
func (Ending) Policy() handoff.Policy {
	return handoff.Policy{Queue: "reminders", Retry: handoff.Retry{MaxAttempts: 3, MinBackoff: time.Hour}}
}

// Start begins a trial: the reminder is due in 13 days, once for each user.
func Start(ctx context.Context, client *handoff.Client, userID string) error {
	if _, err := client.Enqueue(ctx, Ending{UserID: userID}, handoff.In(13*24*time.Hour), handoff.Key(userID)); err != nil {
		return fmt.Errorf("trial: %w", err)
	}
	return nil
}

// ErrNoUser is returned by a Mailer for a user who no longer exists.
var ErrNoUser = errors.New("trial: no such user")

// Mailer sends mail to users.
type Mailer interface {
	Send(ctx context.Context, userID, text string) error
}

// Remind returns the handler of Ending. It drops the task if the user no longer
// exists; any other error is retried.
func Remind(mailer Mailer) func(context.Context, Ending) error {
	return func(ctx context.Context, e Ending) error {
		err := mailer.Send(ctx, e.UserID, "your trial ends tomorrow")
		if errors.Is(err, ErrNoUser) {
			return handoff.Drop(err)
		}
		return err
	}
}

// NewRouter returns the router of the worker service.
func NewRouter(config handoff.RouterConfig, mailer Mailer) (*handoff.Router, error) {
	router, err := handoff.NewRouter(config)
	if err != nil {
		return nil, err
	}
	handoff.Handle(router, Remind(mailer))
	return router, nil
}
