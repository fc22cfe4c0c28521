package dashboard

import (
	"errors"
	"strconv"
	"strings"

	"github.com/brillconsulting/handoff/admin"
)

// search reads a queue page by page until it has a page of matches, the queue ends,
// or it has read searchPages pages.
func search(query TaskQuery, all bool, list func(token string, size int) (admin.TaskPage, error)) (TaskPage, error) {
	token, skip := parseCursor(query.Cursor)
	var found TaskPage
	for pages := 0; all || pages < searchPages; pages++ {
		page, err := list(token, searchPage)
		if err != nil {
			if pages > 0 && errors.Is(err, ErrBudget) {
				break // show what was found; the cursor continues here
			}
			return TaskPage{}, err
		}
		for i := min(skip, len(page.Tasks)); i < len(page.Tasks); i++ {
			found.Looked++
			if !query.Matches(page.Tasks[i]) {
				continue
			}
			found.Tasks = append(found.Tasks, page.Tasks[i])
			if len(found.Tasks) == query.Limit {
				found.Next = cursorAt(token, i+1)
				return found, nil
			}
		}
		if page.Next == "" {
			return found, nil
		}
		token, skip = page.Next, 0
	}
	found.Next = cursorAt(token, 0)
	return found, nil
}

// The cursor of a search has the page and the position in it to continue from.
func cursorAt(token string, skip int) string { return strconv.Itoa(skip) + "~" + token }

func parseCursor(cursor string) (token string, skip int) {
	number, token, _ := strings.Cut(cursor, "~")
	skip, err := strconv.Atoi(number)
	if err != nil || skip < 0 {
		return "", 0
	}
	return token, skip
}
