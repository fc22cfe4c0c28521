package redisstore

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
)

// DeadLetterOptions are the settings of [DeadLetters].
type DeadLetterOptions struct {
	_ [0]func()

	// Prefix begins every key. Defaults to "handoff:". All workers and the handoff
	// command must use the same Prefix.
	Prefix string

	// MaxAge is how long a letter is kept. Defaults to 30 days. It applies to the
	// letters that this store puts.
	MaxAge time.Duration

	// MaxCount is how many letters are kept. When there are more, Put removes
	// others: the redriven ones first, then the oldest. Defaults to 10,000.
	MaxCount int

	// MaxBytes limits the total size of all letters in bytes, including payloads but
	// not indexes. Above it, Put removes other letters as for MaxCount. Put returns
	// an error for a single letter that is larger. Defaults to 256 MiB.
	MaxBytes int64
}

const (
	defaultLetterAge   = 30 * 24 * time.Hour
	defaultLetterCount = 10_000
	defaultLetterBytes = 256 << 20

	// pageBytes limits what one script reads, because Redis serves no other client
	// while a script runs.
	pageBytes = 1 << 20
)

// DeadLetters is a [handoff.DeadLetterStore] in Redis. It is safe for concurrent
// use, and needs no closing.
//
// [DeadLetterOptions] limit the letters by age, count and bytes. In a Cluster, all
// letters share a hash tag and so are on one node: 10,000 letters of 2 kB take
// about 34 MB there, including indexes. Letters are as durable as the server's
// persistence makes them, see the package comment.
type DeadLetters struct {
	rdb     redis.UniversalClient
	root    string
	age     time.Duration
	count   int
	bytes   int64
	flags   flags
	invalid error
}

var _ handoff.DeadLetterStore = (*DeadLetters)(nil)

var (
	//go:embed letters.lua
	lettersLua string
	//go:embed letter_put.lua
	letterPutLua string
	//go:embed letter_list.lua
	letterListLua string
	//go:embed letter_get.lua
	letterGetLua string
	//go:embed letter_mark.lua
	letterMarkLua string
	//go:embed letter_delete.lua
	letterDeleteLua string
	//go:embed letter_count.lua
	letterCountLua string

	letterPut    = newScript(lettersLua + letterPutLua)
	letterList   = newVitalScript(lettersLua + letterListLua)
	letterGet    = newVitalScript(lettersLua + letterGetLua)
	letterMark   = newVitalScript(lettersLua + letterMarkLua)
	letterDelete = newVitalScript(lettersLua + letterDeleteLua)
	letterCount  = newVitalScript(lettersLua + letterCountLua)
)

// NewDeadLetters returns a store that uses rdb, a client of a single server, of
// Sentinel or of a Cluster. Nil options mean the defaults. NewDeadLetters does not
// connect. If rdb is nil or a client that [New] does not accept, or if an option is
// out of range, [DeadLetters.Check] and every call return an error.
func NewDeadLetters(rdb redis.UniversalClient, options *DeadLetterOptions) *DeadLetters {
	if options == nil {
		options = &DeadLetterOptions{}
	}
	s := &DeadLetters{
		rdb:     rdb,
		invalid: checkClient(rdb),
		root:    cmp.Or(options.Prefix, defaultPrefix) + "{dead}:", // one slot: a script changes a letter and its indexes together
		age:     cmp.Or(options.MaxAge, defaultLetterAge),
		count:   cmp.Or(options.MaxCount, defaultLetterCount),
		bytes:   cmp.Or(options.MaxBytes, defaultLetterBytes),
	}
	if s.age < 0 || s.count < 0 || s.bytes < 0 {
		s.invalid = errors.Join(s.invalid, fmt.Errorf("DeadLetterOptions.MaxAge is %s, MaxCount is %d and MaxBytes is %d; they must be positive, or zero for %s, %d and %d",
			options.MaxAge, options.MaxCount, options.MaxBytes, defaultLetterAge, defaultLetterCount, defaultLetterBytes))
	}
	return s
}

// Check returns an error if the store can never work, because its client is nil or
// unsuitable or an option is out of range. It does not connect.
// [handoff.NewRouter] calls it.
func (s *DeadLetters) Check() error {
	if s == nil {
		return errNilStore
	}
	if s.invalid != nil {
		return fmt.Errorf("redisstore: %w", s.invalid)
	}
	return nil
}

// Retention implements [handoff.DeadLetterStore]. It returns MaxAge.
func (s *DeadLetters) Retention() time.Duration { return s.age }

// Put implements [handoff.DeadLetterStore].
func (s *DeadLetters) Put(ctx context.Context, letter handoff.DeadLetter) error {
	if letter.ID == "" {
		return errors.New("redisstore: put dead letter: DeadLetter.ID is empty")
	}
	payload := string(letter.Payload)
	letter.Payload, letter.RedrivenAt = nil, time.Time{} // Payload is stored separately, RedrivenAt in the entry
	text, err := encodeLetter(letter)
	if size := int64(len(text) + len(payload)); err == nil && size > s.bytes {
		err = fmt.Errorf("the letter has %d bytes, and DeadLetterOptions.MaxBytes is %d", size, s.bytes)
	}
	if err == nil {
		_, err = s.run(ctx, &letterPut, letter.ID, letter.Kind, letterOrder(letter.BuriedAt), string(text), payload,
			strconv.FormatInt(millis(s.age), 10), strconv.Itoa(s.count), strconv.FormatInt(s.bytes, 10))
	}
	return wrapLetter("put dead letter", err)
}

// List implements [handoff.DeadLetterStore].
func (s *DeadLetters) List(ctx context.Context, query handoff.DeadLetterQuery) (handoff.DeadLetterPage, error) {
	limit, err := query.PageSize()
	if query.Cursor != "" && !isMember(query.Cursor) {
		err = errors.Join(err, errors.New("DeadLetterQuery.Cursor is not the Next of a page"))
	}
	index := "waiting"
	if query.Redriven {
		index = "redriven"
	}
	if query.Kind != "" {
		index += ":" + query.Kind
	}
	payloads := "1"
	if query.NoPayloads {
		payloads = "0"
	}
	page := handoff.DeadLetterPage{Next: query.Cursor}
	for more := true; more && err == nil; more = len(page.Letters) == 0 && page.Next != "" { // every letter of this page had expired
		var response any
		response, err = s.run(ctx, &letterList, index, strconv.Itoa(limit), page.Next, payloads, strconv.Itoa(pageBytes))
		if err == nil {
			page, err = parsePage(response)
		}
	}
	if err != nil {
		return handoff.DeadLetterPage{}, wrapLetter("list dead letters", err)
	}
	return page, nil
}

func parsePage(response any) (page handoff.DeadLetterPage, err error) {
	values, _ := response.([]any)
	r := reply{values: values}
	page.Next = r.text()
	for err == nil && !r.odd && len(r.values) > 0 {
		var letter handoff.DeadLetter
		letter, err = parseLetter(&r)
		page.Letters = append(page.Letters, letter)
	}
	if r.odd {
		return page, unexpected(response)
	}
	return page, err
}

// parseLetter reads a letter, its payload and its redrive time.
func parseLetter(r *reply) (letter handoff.DeadLetter, err error) {
	text, payload, redriven := r.text(), r.bytes(), r.text()
	if r.odd {
		return letter, nil // the caller reports it
	}
	if letter, err = decodeLetter(text); err != nil {
		return letter, err
	}
	letter.Payload = payload
	if us, err := strconv.ParseInt(redriven, 10, 64); err == nil && us > 0 {
		letter.RedrivenAt = time.UnixMicro(us)
	}
	return letter, nil
}

// Get implements [handoff.DeadLetterStore].
func (s *DeadLetters) Get(ctx context.Context, id string) (handoff.DeadLetter, error) {
	response, err := s.run(ctx, &letterGet, id)
	if errors.Is(err, redis.Nil) {
		err = fmt.Errorf("%q: %w", id, handoff.ErrNoDeadLetter)
	}
	if err != nil {
		return handoff.DeadLetter{}, wrapLetter("get dead letter", err)
	}
	values, _ := response.([]any)
	r := reply{values: values}
	letter, err := parseLetter(&r)
	if !r.whole() {
		err = unexpected(response)
	}
	return letter, wrapLetter("get dead letter", err)
}

// Delete implements [handoff.DeadLetterStore].
func (s *DeadLetters) Delete(ctx context.Context, id string) error {
	_, err := s.run(ctx, &letterDelete, id)
	return wrapLetter("delete dead letter", err)
}

// MarkRedriven implements [handoff.DeadLetterStore].
func (s *DeadLetters) MarkRedriven(ctx context.Context, id string, buriedAt time.Time) error {
	_, err := s.run(ctx, &letterMark, id, letterOrder(buriedAt))
	return wrapLetter("mark dead letter", err)
}

// CountByKind implements [handoff.DeadLetterStore].
func (s *DeadLetters) CountByKind(ctx context.Context) (map[string]int, error) {
	counts := make(map[string]int)
	for last, more := "", true; more; more = last != "" {
		response, err := s.run(ctx, &letterCount, last)
		if err != nil {
			return nil, wrapLetter("count dead letters", err)
		}
		values, _ := response.([]any)
		r := reply{values: values}
		last = r.text()
		for !r.odd && len(r.values) > 0 {
			counts[r.text()]++
		}
		if r.odd {
			return nil, wrapLetter("count dead letters", unexpected(response))
		}
	}
	return counts, nil
}

func (s *DeadLetters) run(ctx context.Context, sc *script, args ...string) (any, error) {
	if err := errors.Join(s.invalid, ctx.Err()); err != nil {
		return nil, err
	}
	keys := []string{s.root + "letters", s.root + "bytes"}
	return s.runOn(ctx, sc, keys, append([]string{s.root}, args...)...)
}

func (s *DeadLetters) runOn(ctx context.Context, sc *script, keys []string, args ...string) (any, error) {
	form := s.flags.form(sc)
	cmd := form.call(ctx, keys, args...)
	_ = s.rdb.Process(ctx, cmd) // the error is in cmd
	if isUnknownScript(cmd.Err()) {
		cmd = form.load(ctx, keys, args...)
		_ = s.rdb.Process(ctx, cmd)
	}
	if s.flags.refused(form, cmd.Err()) {
		return s.runOn(ctx, sc, keys, args...)
	}
	return cmd.Val(), explained(cmd.Err())
}

func wrapLetter(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("redisstore: %s: %w", verb, err)
}

// letterOrder decreases with the time of burial, so that the newest letters come
// first. Its 16 digits last until 2286.
func letterOrder(buriedAt time.Time) string {
	const maxOrder = 9_999_999_999_999_999
	return fmt.Sprintf("%016d", maxOrder-min(max(buriedAt.UnixMicro(), 0), maxOrder))
}

// isMember reports whether s has the form of an index member: an order, then an
// ID.
func isMember(s string) bool {
	const order = 16
	return len(s) > order && strings.Trim(s[:order], "0123456789") == ""
}
