package dashboard

import (
	"cmp"
	"context"
	"html/template"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
)

// letterFilter selects dead letters. A letter must match every field that is set.
type letterFilter struct {
	Kind   string
	Reason string
	Error  string // the group of its last error: see errorGroup
	Text   string // part of the last error, the ID, the task, the queue or the target, in any case
}

func (f letterFilter) matches(l handoff.DeadLetter) bool {
	if f.Kind != "" && f.Kind != l.Kind {
		return false
	}
	if f.Reason != "" && (len(l.Reasons) == 0 || string(l.Reasons[0]) != f.Reason) {
		return false
	}
	if f.Error != "" && errorGroup(l.LastErr) != f.Error {
		return false
	}
	want := strings.ToLower(f.Text)
	return want == "" || slices.ContainsFunc([]string{l.LastErr, l.ID, l.Task, l.Queue, l.Target, l.HandoffID}, func(s string) bool {
		return strings.Contains(strings.ToLower(s), want)
	})
}

// Any reports whether a field is set.
func (f letterFilter) Any() bool { return f != letterFilter{} }

// Query returns the filter as a URL query.
func (f letterFilter) Query() template.URL {
	return query("kind", f.Kind, "reason", f.Reason, "error", f.Error, "q", f.Text)
}

// varying matches what differs between errors of one cause: numbers, and IDs, which
// contain digits.
var varying = regexp.MustCompile(`[\w-]*\d[\w-]*`)

// errorGroup returns the group of a last error: its first line, without numbers and
// IDs, at most 120 characters.
func errorGroup(lastErr string) string {
	const limit = 120
	line, _, _ := strings.Cut(strings.TrimSpace(lastErr), "\n")
	group := []rune(strings.TrimSpace(varying.ReplaceAllString(line, "#")))
	if len(group) > limit {
		group = append(group[:limit-1], '…')
	}
	return string(group)
}

// deadReasons are the reasons for which tasks are buried.
var deadReasons = []string{
	string(handoff.ReasonPermanent), string(handoff.ReasonExhausted), string(handoff.ReasonCrashed),
	string(handoff.ReasonExpired), string(handoff.ReasonUndecodable), string(handoff.ReasonInvalid),
}

const (
	lettersShown  = 50
	lettersLooked = 1000 // letters that one request searches at most
	lettersPage   = 200  // page size of a redrive's list; each letter has its payload
)

// letterList is one page of letters.
type letterList struct {
	Letters []handoff.DeadLetter
	Next    string // cursor of the next page; empty: there is none
	Looked  int    // letters that were searched
}

// listLetters searches the store until it has a page of matches, or has searched
// lettersLooked letters.
func listLetters(ctx context.Context, store handoff.DeadLetterStore, f letterFilter, cursor string) (letterList, error) {
	var found letterList
	for found.Looked < lettersLooked {
		// The cursor continues after a whole page of the store, so all
		// matches of the last page are shown, even if there are more than
		// lettersShown.
		page, err := store.List(ctx, handoff.DeadLetterQuery{Kind: f.Kind, Cursor: cursor, Limit: lettersShown})
		if err != nil {
			return letterList{}, err
		}
		found.Looked += len(page.Letters)
		for _, l := range page.Letters {
			if f.matches(l) {
				found.Letters = append(found.Letters, l)
			}
		}
		if cursor = page.Next; cursor == "" || len(found.Letters) >= lettersShown {
			break
		}
	}
	found.Next = cursor
	return found, nil
}

// lettersView is what the page of dead letters shows.
type lettersView struct {
	Stored  bool // there is a store
	Redrive bool // letters can be redriven
	Total   int
	Kinds   []count
	Reasons []count // of the letters shown
	Errors  []count // of the letters shown, by errorGroup
	Filter  letterFilter
	List    letterList
	Next    string // address of the next page; empty: there is none
	First   bool
	Under   *progress // the redrive that was started last; nil: none
}

type count struct {
	Name string
	N    int
}

func (d *Dashboard) showLetters(r *http.Request) (view, error) {
	data := lettersView{Stored: d.config.DeadLetters != nil, Redrive: d.config.Client != nil, Under: d.redrive.progress()}
	v := view{name: "letters", title: "Dead letters", nav: "dead", live: data.Stored, data: &data}
	if !data.Stored {
		return v, nil
	}
	kinds, err := d.config.DeadLetters.CountByKind(r.Context())
	if err != nil {
		return view{}, err
	}
	for _, n := range kinds {
		data.Total += n
	}
	data.Kinds = counts(kinds)
	values := r.URL.Query()
	data.Filter = letterFilterOf(values)
	data.First = values.Get("page") == ""
	if data.List, err = listLetters(r.Context(), d.config.DeadLetters, data.Filter, values.Get("page")); err != nil {
		return view{}, err
	}
	reasons, groups := make(map[string]int), make(map[string]int)
	for _, l := range data.List.Letters {
		if group := errorGroup(l.LastErr); group != "" {
			groups[group]++
		}
		if len(l.Reasons) > 0 {
			reasons[string(l.Reasons[0])]++
		}
	}
	data.Reasons, data.Errors = counts(reasons), counts(groups)
	if data.List.Next != "" {
		values.Set("page", data.List.Next)
		values.Del("done")
		data.Next = "?" + values.Encode()
	}
	return v, nil
}

// deadCountAge is the maximum age of the counts on the start page.
const deadCountAge = 5 * time.Second

// countDead returns the number of letters of each kind, the largest first.
func (d *Dashboard) countDead(ctx context.Context) ([]count, error) {
	return d.dead.get("", func() ([]count, error) {
		kinds, err := d.config.DeadLetters.CountByKind(ctx)
		return counts(kinds), err
	})
}

// counts returns the counts of a map, the largest first.
func counts(m map[string]int) []count {
	var all []count
	for name, n := range m {
		all = append(all, count{name, n})
	}
	slices.SortFunc(all, func(a, b count) int { return cmp.Or(b.N-a.N, strings.Compare(a.Name, b.Name)) })
	return all
}

// letterView is what the page of a dead letter shows.
type letterView struct {
	Letter  handoff.DeadLetter
	Header  []headerLine
	Payload *payload // nil: not asked for
	Redrive bool
}

func (d *Dashboard) showLetter(r *http.Request) (view, error) {
	if d.config.DeadLetters == nil {
		return view{}, errNoLetters
	}
	values := r.URL.Query()
	letter, err := d.config.DeadLetters.Get(r.Context(), values.Get("id"))
	if err != nil {
		return view{}, err
	}
	data := letterView{Letter: letter, Header: headerLines(letter.Header), Redrive: d.config.Client != nil}
	if values.Get("payload") == "shown" {
		data.Payload = payloadOf(letter.Payload, http.Header(letter.Header).Get("Content-Type"))
	}
	return view{name: "letter", title: "Dead letter", nav: "dead", data: data}, nil
}
