package dashboard

import (
	"fmt"
	"strings"
	"time"
)

// chart is the data of a chart's template: bars in a box of chartWidth by
// chartHeight, which the page scales, and text beside it.
type chart struct {
	Title   string
	Summary string // what the bars show, for screen readers
	Top     string // the value of the upper edge
	Span    string
	Unseen  float64 // width of the part that was not observed
	Bars    []bar
	Legend  []legend
}

type bar struct {
	X, Y, W, H float64
	Class      string
}

type legend struct{ Class, Label, Value string }

const (
	chartWidth  = 600
	chartHeight = 100
	chartBars   = 60
	barGap      = 0.15 // part of a bar's width that is left empty
)

// window holds the values of a chart's bars. It ends with the last complete bar,
// because an incomplete one would look like a drop.
type window struct {
	step  time.Duration
	end   time.Time
	slots [chartBars]Second
	total Second
	seen  int // index of the first bar that was observed
}

func windowOf(a Activity, now time.Time, span time.Duration) window {
	w := window{step: span / chartBars}
	w.end = now.Truncate(w.step)
	start := w.end.Add(-span)
	for _, s := range a.Seconds {
		if s.At.Before(start) || !s.At.Before(w.end) {
			continue
		}
		i := s.At.Sub(start) / w.step
		w.slots[i], w.total = w.slots[i].plus(s), w.total.plus(s)
	}
	if a.Since.After(start) {
		w.seen = min(chartBars, int(a.Since.Sub(start)/w.step))
	}
	return w
}

func (s Second) plus(other Second) Second {
	s.Dispatched += other.Dispatched
	s.LagSum += other.LagSum
	s.LagMax = max(s.LagMax, other.LagMax)
	s.Succeeded += other.Succeeded
	s.Refused += other.Refused
	s.Failed += other.Failed
	s.Unanswered += other.Unanswered
	return s
}

// observed returns how much of the window was observed.
func (w window) observed() time.Duration {
	return time.Duration(chartBars-w.seen) * w.step
}

func (w window) most(value func(Second) float64) float64 {
	most := 0.0
	for _, s := range w.slots {
		most = max(most, value(s))
	}
	return most
}

// layer is one part of each bar. The layers of a chart are stacked.
type layer struct {
	class string
	value func(Second) float64
}

// draw makes the bars. top is the value of the upper edge.
func (w window) draw(c *chart, top float64, layers ...layer) *chart {
	const wide = float64(chartWidth) / chartBars
	c.Unseen = float64(w.seen) * wide
	c.Span = minutes(w.step * chartBars)
	if top == 0 {
		return c
	}
	for i, s := range w.slots {
		y := float64(chartHeight)
		for _, l := range layers {
			h := l.value(s) / top * chartHeight
			if h == 0 {
				continue
			}
			y -= h
			c.Bars = append(c.Bars, bar{X: float64(i) * wide, Y: y, W: wide * (1 - barGap), H: h, Class: l.class})
		}
	}
	return c
}

func throughputChart(a Activity, now time.Time, span time.Duration) *chart {
	w := windowOf(a, now, span)
	rate := func(s Second) float64 { return float64(s.Dispatched) / w.step.Seconds() }
	top := w.most(rate)
	average := 0.0
	if observed := w.observed(); observed > 0 {
		average = float64(w.total.Dispatched) / observed.Seconds()
	}
	c := &chart{
		Title:   "Throughput",
		Top:     number(top) + "/s",
		Summary: fmt.Sprintf("%s dispatches in the last %s, %s a second on average, %s at most.", integer(w.total.Dispatched), minutes(w.observed()), number(average), number(top)),
		Legend:  []legend{{"work", "dispatched", integer(w.total.Dispatched)}, {"", "average", number(average) + "/s"}},
	}
	return w.draw(c, top, layer{"work", rate})
}

// outcomes are the layers of a bar from the bottom up. Each has a label, so that
// nothing is told by colour alone.
var outcomes = []struct {
	class, label string
	count        func(Second) int
}{
	{"good", "succeeded", func(s Second) int { return s.Succeeded }},
	{"warn", "refused (4xx)", func(s Second) int { return s.Refused }},
	{"bad", "failed (5xx)", func(s Second) int { return s.Failed }},
	{"none", "no response", func(s Second) int { return s.Unanswered }},
}

func outcomeChart(a Activity, now time.Time, span time.Duration) *chart {
	w := windowOf(a, now, span)
	top := w.most(func(s Second) float64 { return float64(s.Ended()) })
	c := &chart{Title: "Outcomes", Top: number(top/w.step.Seconds()) + "/s"}
	var layers []layer
	var words []string
	for _, o := range outcomes {
		c.Legend = append(c.Legend, legend{o.class, o.label, integer(o.count(w.total))})
		words = append(words, fmt.Sprintf("%s %s", integer(o.count(w.total)), o.label))
		layers = append(layers, layer{o.class, func(s Second) float64 { return float64(o.count(s)) }})
	}
	c.Summary = fmt.Sprintf("Dispatches that ended in the last %s: %s.", minutes(w.observed()), strings.Join(words, ", "))
	return w.draw(c, top, layers...)
}

func lagChart(a Activity, now time.Time, span time.Duration) *chart {
	w := windowOf(a, now, span)
	top := w.most(func(s Second) float64 { return s.LagMax.Seconds() })
	mean := meanLag(w.total)
	c := &chart{
		Title:   "Lag behind schedule",
		Top:     briefly(w.total.LagMax),
		Summary: fmt.Sprintf("Dispatches of the last %s were %s late on average, %s at worst.", minutes(w.observed()), briefly(mean), briefly(w.total.LagMax)),
		Legend:  []legend{{"work", "mean", briefly(mean)}, {"pale", "worst", briefly(w.total.LagMax)}},
	}
	return w.draw(c, top,
		layer{"work", func(s Second) float64 { return meanLag(s).Seconds() }},
		layer{"pale", func(s Second) float64 { return (s.LagMax - meanLag(s)).Seconds() }})
}

// meanLag returns the mean lag of the dispatches of a second.
func meanLag(s Second) time.Duration {
	if s.Dispatched == 0 {
		return 0
	}
	return s.LagSum / time.Duration(s.Dispatched)
}

// sparkline returns the small outcome chart of a table row.
func sparkline(a Activity, now time.Time, span time.Duration) *chart {
	return outcomeChart(a, now, span)
}
