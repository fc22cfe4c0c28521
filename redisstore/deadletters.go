package redisstore

import (
	"context"
	_ "embed"
	"encoding/json"
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

	// Prefix is put before every key. Defaults to "handoff:". All workers
	// must have the same.
	Prefix string

	// MaxAge is how long a letter is kept. Defaults to 30 days. Put goes by it;
	// to look at letters removes none.
	MaxAge time.Duration

	// MaxCount is how many letters are kept; beyond it Put removes the oldest.
	// Defaults to 10,000.
	MaxCount int
}

const (
	defaultLetterAge   = 30 * 24 * time.Hour
	defaultLetterCount = 10_000
)

// DeadLetters is a [handoff.DeadLetterStore] in Redis. It is safe for
// concurrent use, and holds no resources of its own.
//
// Letters are bounded by age and count, both stated in [DeadLetterOptions]; the
// oldest go first. In a Cluster all letters and their indexes share one hash
// tag, hence one slot and one node: 10,000 letters of 2 kB are about 42 MB
// there. As durable as the server's persistence: see the package comment.
type DeadLetters struct {
	rdb     redis.UniversalClient
	root    string
	age     time.Duration
	count   int
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
	//go:embed letter_delete.lua
	letterDeleteLua string
	//go:embed letter_count.lua
	letterCountLua string

	letterPut    = newScript(lettersLua + letterPutLua)
	letterList   = newScript(lettersLua + letterListLua)
	letterDelete = newScript(lettersLua + letterDeleteLua)
	letterCount  = newScript(lettersLua + letterCountLua)
)

// NewDeadLetters returns a store on a client of a single server, of Sentinel or
// of a Cluster. Nil options are the defaults. It does not connect. With a nil
// client or impossible options every call returns an error that says so.
func NewDeadLetters(rdb redis.UniversalClient, options *DeadLetterOptions) *DeadLetters {
	s := &DeadLetters{rdb: rdb, root: defaultPrefix, age: defaultLetterAge, count: defaultLetterCount}
	if isNil(rdb) {
		s.invalid = errNilClient
	}
	if options == nil {
		options = &DeadLetterOptions{}
	}
	if options.MaxAge < 0 || options.MaxCount < 0 {
		s.invalid = errors.Join(s.invalid, fmt.Errorf("DeadLetterOptions.MaxAge is %s and MaxCount is %d; they must be positive, or zero for %s and %d",
			options.MaxAge, options.MaxCount, defaultLetterAge, defaultLetterCount))
	}
	if options.Prefix != "" {
		s.root = options.Prefix
	}
	if options.MaxAge > 0 {
		s.age = options.MaxAge
	}
	if options.MaxCount > 0 {
		s.count = options.MaxCount
	}
	s.root += "{dead}:" // one slot, since a script changes letter and indexes together
	return s
}

// Check returns an error if the store cannot work, whatever the state of its
// server: because its client is nil or an option is out of range.
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

// Put implements [handoff.DeadLetterStore].
func (s *DeadLetters) Put(ctx context.Context, letter handoff.DeadLetter) error {
	if letter.ID == "" {
		return errors.New("redisstore: put dead letter: DeadLetter.ID is empty")
	}
	text, err := json.Marshal(letter)
	if err == nil {
		_, err = s.run(ctx, &letterPut, letter.ID, letter.Kind, negatedMicros(letter.BuriedAt), string(text))
	}
	return wrapLetter("put dead letter", err)
}

// List implements [handoff.DeadLetterStore].
func (s *DeadLetters) List(ctx context.Context, query handoff.DeadLetterQuery) (handoff.DeadLetterPage, error) {
	limit, limitErr := query.PageSize()
	at, id, cursorErr := parseCursor(query.Cursor)
	if err := errors.Join(limitErr, cursorErr); err != nil {
		return handoff.DeadLetterPage{}, wrapLetter("list dead letters", err)
	}
	index := "all"
	if query.Kind != "" {
		index = "of:" + query.Kind
	}
	answer, err := s.run(ctx, &letterList, index, strconv.Itoa(limit), at, id)
	if err != nil {
		return handoff.DeadLetterPage{}, wrapLetter("list dead letters", err)
	}
	page, err := parsePage(answer, limit)
	return page, wrapLetter("list dead letters", err)
}

func parsePage(answer any, limit int) (handoff.DeadLetterPage, error) {
	texts, ok := answer.([]any)
	if !ok {
		return handoff.DeadLetterPage{}, unexpected(answer)
	}
	var page handoff.DeadLetterPage
	for _, text := range texts {
		if len(page.Letters) == limit {
			last := page.Letters[limit-1]
			page.Next = negatedMicros(last.BuriedAt) + "~" + last.ID
			break
		}
		letter, err := parseLetter(text)
		if err != nil {
			return handoff.DeadLetterPage{}, err
		}
		page.Letters = append(page.Letters, letter)
	}
	return page, nil
}

func parseLetter(answer any) (letter handoff.DeadLetter, err error) {
	text, ok := answer.(string)
	if !ok {
		return letter, unexpected(answer)
	}
	if json.Unmarshal([]byte(text), &letter) != nil {
		return letter, errors.New("what is stored is not a dead letter") // and stays out of the error
	}
	return letter, nil
}

// Get implements [handoff.DeadLetterStore].
func (s *DeadLetters) Get(ctx context.Context, id string) (handoff.DeadLetter, error) {
	var text string
	err := errors.Join(s.invalid, ctx.Err())
	if err == nil {
		text, err = s.rdb.Get(ctx, s.root+"letter:"+id).Result()
	}
	if errors.Is(err, redis.Nil) {
		err = fmt.Errorf("%q: %w", id, handoff.ErrNoDeadLetter)
	}
	if err != nil {
		return handoff.DeadLetter{}, wrapLetter("get dead letter", err)
	}
	letter, err := parseLetter(text)
	return letter, wrapLetter("get dead letter", err)
}

// Delete implements [handoff.DeadLetterStore].
func (s *DeadLetters) Delete(ctx context.Context, id string) error {
	_, err := s.run(ctx, &letterDelete, id)
	return wrapLetter("delete dead letter", err)
}

// CountByKind implements [handoff.DeadLetterStore].
func (s *DeadLetters) CountByKind(ctx context.Context) (map[string]int, error) {
	answer, err := s.run(ctx, &letterCount)
	if err != nil {
		return nil, wrapLetter("count dead letters", err)
	}
	kinds, ok := answer.([]any)
	if !ok {
		return nil, wrapLetter("count dead letters", unexpected(answer))
	}
	counts := make(map[string]int)
	for _, kind := range kinds {
		name, ok := kind.(string)
		if !ok {
			return nil, wrapLetter("count dead letters", unexpected(kind))
		}
		counts[name]++
	}
	return counts, nil
}

func (s *DeadLetters) run(ctx context.Context, sc *script, args ...string) (any, error) {
	if err := errors.Join(s.invalid, ctx.Err()); err != nil {
		return nil, err
	}
	keys := []string{s.root + "all", s.root + "kinds"}
	args = append([]string{s.root, strconv.FormatInt(s.age.Microseconds(), 10), strconv.Itoa(s.count)}, args...)
	cmd := sc.call(ctx, keys, args...)
	_ = s.rdb.Process(ctx, cmd) // the command keeps its error
	if isUnknownScript(cmd.Err()) {
		cmd = sc.load(ctx, keys, args...)
		_ = s.rdb.Process(ctx, cmd)
	}
	return cmd.Result()
}

func wrapLetter(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("redisstore: %s: %w", verb, err)
}

func negatedMicros(t time.Time) string { return strconv.FormatInt(-t.UnixMicro(), 10) }

// parseCursor takes apart what names the last letter of the page before.
func parseCursor(cursor string) (at, id string, err error) {
	if cursor == "" {
		return "", "", nil
	}
	at, id, ok := strings.Cut(cursor, "~")
	if _, err := strconv.ParseInt(at, 10, 64); !ok || err != nil {
		return "", "", errors.New("DeadLetterQuery.Cursor is not one that a page gave")
	}
	return at, id, nil
}
