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

// integer is a number with its thousands apart: 12,345.
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

// plural is a number of things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return integer(n) + " " + thing + "s"
}

// number is a rate or the like, as exactly as it is of use.
func number(f float64) string {
	switch {
	case f == math.Trunc(f) || f >= 100:
		return integer(int64(math.Round(f)))
	case f >= 10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'f', 2, 64)
}

// briefly is a duration in its largest unit.
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

// minutes is the span of a chart.
func minutes(d time.Duration) string {
	if d == time.Minute {
		return "minute"
	}
	if d%time.Minute == 0 && d > 0 {
		return strconv.Itoa(int(d.Minutes())) + " minutes"
	}
	return briefly(d)
}

// relative is a time as seen from now.
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

// clock is a time of today to the millisecond, of another day with its date.
func clock(now, t time.Time) string {
	t, now = t.UTC(), now.UTC()
	if t.Truncate(24 * time.Hour).Equal(now.Truncate(24 * time.Hour)) {
		return t.Format("15:04:05.000")
	}
	return t.Format("2006-01-02 15:04:05")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// queuePath is where the page of a queue is, below the prefix.
func queuePath(name string) string {
	n := queueNameOf(name)
	return "/queues/" + url.PathEscape(n.Project) + "/" + url.PathEscape(n.Location) + "/" + url.PathEscape(n.ID)
}

// taskPath is where the page of a task is.
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

// target is what a task is for: its kind, or the path that it calls.
func target(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Path == "" {
		return address
	}
	return u.Path
}

// answer is the words for a status of HTTP.
func answer(status int) string {
	if text := http.StatusText(status); text != "" {
		return strconv.Itoa(status) + " " + text
	}
	return strconv.Itoa(status)
}

// answerClass is the colour of an answer; its words stand beside it.
func answerClass(status int) string {
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

// retryPolicy is the retry policy of a queue in a line.
func retryPolicy(c admin.QueueConfig) string {
	attempts := plural(c.MaxAttempts, "attempt")
	switch {
	case c.MaxAttempts == handoff.Unlimited && c.MaxRetryDuration == 0:
		attempts = "no limit of attempts"
	case c.MaxAttempts == handoff.Unlimited:
		attempts = "for " + briefly(c.MaxRetryDuration)
	}
	if c.MaxAttempts != handoff.Unlimited && c.MaxRetryDuration > 0 {
		attempts += " and " + briefly(c.MaxRetryDuration)
	}
	return fmt.Sprintf("%s, %s to %s apart", attempts, briefly(c.MinBackoff), briefly(c.MaxBackoff))
}

// share is a part of a whole in the width of a meter, at most 100.
func share(part, whole float64) float64 {
	if whole <= 0 {
		return 0
	}
	return min(100, max(0, part/whole*100))
}

// say is the text of a problem in one line.
func (p problem) say() string { return strings.TrimSpace(p.Text + " " + p.Detail) }
