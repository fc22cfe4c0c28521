package trial_test

import "context"

// outbox is a Mailer that keeps its mails, or fails.
type outbox struct {
	fail error
	sent []string
}

func (o *outbox) Send(_ context.Context, userID, _ string) error {
	if o.fail != nil {
		return o.fail
	}
	o.sent = append(o.sent, userID)
	return nil
}
