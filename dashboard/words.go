package dashboard

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
)

// integer formats a number with separators: 12,345.
func integer[T int | int64](n T) string {
	digits := strconv.FormatInt(int64(n), 10)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "−", digits[1:]
	}
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return sign + digits
}

// plural formats a number of things: "1 task", "2 tasks".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return integer(n) + " " + thing + "s"
}

// number formats a rate with at most two decimals.
func number(f float64) string {
	switch {
	case f == math.Trunc(f) || f >= 100:
		return integer(int64(math.Round(f)))
	case f >= 10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'f', 2, 64)
}

// briefly formats a duration in one unit.
func briefly(d time.Duration) string {
	switch {
	case d < 0:
		return "−" + briefly(-d)
	case d == 0:
		return "0 ms"
	case d < time.Millisecond:
		return "<1 ms"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 10*time.Second && d%time.Second != 0:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < 2*time.Minute && d != time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < 2*time.Hour && d != time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h"
	}
	return integer(int(d.Hours()/24)) + " days"
}

// minutes formats the time that a chart covers.
func minutes(d time.Duration) string {
	if d == time.Minute {
		return "minute"
	}
	if d%time.Minute == 0 && d > 0 {
		return strconv.Itoa(int(d.Minutes())) + " minutes"
	}
	return briefly(d)
}

// relative formats a time as seen from now: "in 5 s", "2 min ago".
func relative(now, t time.Time) string {
	switch d := t.Sub(now); {
	case t.IsZero():
		return "never"
	case d > 500*time.Millisecond:
		return "in " + briefly(d.Round(time.Second))
	case d > -time.Second:
		return "now"
	default:
		return briefly(-d.Round(time.Second)) + " ago"
	}
}

// clock formats a time of today with milliseconds, and one of another day with its
// date.
func clock(now, t time.Time) string {
	t, now = t.UTC(), now.UTC()
	if t.Truncate(24 * time.Hour).Equal(now.Truncate(24 * time.Hour)) {
		return t.Format("15:04:05.000")
	}
	return t.Format("2006-01-02 15:04:05")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// queuePath returns the path of a queue's page, below the prefix.
func queuePath(name string) string {
	n := queueNameOf(name)
	return "/queues/" + url.PathEscape(n.Project) + "/" + url.PathEscape(n.Location) + "/" + url.PathEscape(n.ID)
}

// taskPath returns the path of a task's page, below the prefix.
func taskPath(name string) string {
	queue, id, _ := strings.Cut(name, "/tasks/")
	return queuePath(queue) + "/tasks/" + url.PathEscape(id)
}

func taskID(name string) string {
	_, id, _ := strings.Cut(name, "/tasks/")
	return id
}

func queueID(name string) string {
	queue, _, _ := strings.Cut(name, "/tasks/")
	return queueNameOf(queue).ID
}

// target returns the path of a URL, or all of it if it has none.
func target(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Path == "" {
		return address
	}
	return u.Path
}

// response formats an HTTP status: "404 Not Found".
func response(status int) string {
	if text := http.StatusText(status); text != "" {
		return strconv.Itoa(status) + " " + text
	}
	return strconv.Itoa(status)
}

// responseClass returns the CSS class of an HTTP status.
func responseClass(status int) string {
	switch {
	case status == 0:
		return "none"
	case status < 300:
		return "good"
	case status < 500:
		return "warn"
	}
	return "bad"
}

func stateClass(state admin.State) string {
	switch state {
	case admin.Running:
		return "good"
	case admin.Paused:
		return "warn"
	}
	return "bad"
}

func statusClass(s Status) string {
	return map[Status]string{Waiting: "quiet", Running: "work", Retrying: "warn"}[s]
}

func endClass(e End) string {
	switch e {
	case Succeeded:
		return "good"
	case GivenUp, TooOld:
		return "bad"
	}
	return "none"
}

// retryPolicy describes the retry policy of a queue in one line. A queue's limit
// counts dispatches, not the attempts of a handler.
func retryPolicy(c admin.QueueConfig) string {
	limit := integer(c.MaxAttempts) + " dispatches"
	switch {
	case c.MaxAttempts == 1:
		limit = "1 dispatch"
	case c.MaxAttempts == handoff.Unlimited && c.MaxRetryDuration == 0:
		limit = "no limit of dispatches"
	case c.MaxAttempts == handoff.Unlimited:
		limit = "for " + briefly(c.MaxRetryDuration)
	}
	if c.MaxAttempts != handoff.Unlimited && c.MaxRetryDuration > 0 {
		limit += " and " + briefly(c.MaxRetryDuration)
	}
	return fmt.Sprintf("%s, %s to %s apart", limit, briefly(c.MinBackoff), briefly(c.MaxBackoff))
}

// share returns part as a percentage of whole, at most 100.
func share(part, whole float64) float64 {
	if whole <= 0 {
		return 0
	}
	return min(100, max(0, part/whole*100))
}

// say returns the text of the problem in one line.
func (p problem) say() string { return strings.TrimSpace(p.Text + " " + p.Detail) }
