package recipes

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
)

// Notify tells another company's API of an order.
type Notify struct{ Order string }

// Kind implements handoff.Payload.
func (Notify) Kind() string { return "notify" }

// RunNotify returns the handler of Notify. If the API says when to come back, the task
// comes back then, and the attempt counts.
func RunNotify(client *http.Client, url string) func(context.Context, Notify) error {
	return func(ctx context.Context, n Notify) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(n.Order))
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode < 300 {
			return nil
		}
		err = fmt.Errorf("recipes: notify: %s", resp.Status)
		if wait, ok := retryAfter(resp.Header.Get("Retry-After")); ok {
			return handoff.RetryIn(err, wait)
		}
		return err // retried with the task's own backoff
	}
}

// retryAfter reads a Retry-After, which is a number of seconds or a date.
func retryAfter(value string) (time.Duration, bool) {
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	at, err := http.ParseTime(value)
	return time.Until(at), err == nil
}
