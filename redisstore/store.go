package redisstore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
)

// Options are the settings of a [Store].
type Options struct {
	_ [0]func()

	// Prefix begins every key of the fence. It separates the applications that share
	// a server, and can be named in an ACL. Defaults to "handoff:". A prefix of more
	// than 8 characters costs 16 bytes or more for each task. All workers of a queue
	// must use the same Prefix.
	Prefix string
}

const defaultPrefix = "handoff:"

// Store is a [handoff.KeyStore] in Redis. It is safe for concurrent use. It needs
// no closing: close the client after the router has shut down.
type Store struct {
	nodes  nodes
	flags  flags
	prefix string
	err    error
}

var _ handoff.KeyStore = (*Store)(nil)

// New returns a Store that uses rdb, a client of a single server, of Sentinel or of
// a Cluster. Nil options mean the defaults. New does not connect. If rdb is nil, a
// redis.Ring, or a Cluster client that reads from replicas, [Store.Check] and every
// call return an error.
//
// Set ContextTimeoutEnabled in the client's options. Calls honour their context
// without it too, but a call that shares its round trip with no other then costs
// half as much again, because it needs a second goroutine.
//
// Concurrent calls share round trips, so a few connections are enough for a Store.
func New(rdb redis.UniversalClient, options *Options) *Store {
	s := &Store{prefix: defaultPrefix, err: checkClient(rdb)}
	if s.err != nil {
		return s
	}
	s.nodes.init(rdb)
	if options != nil && options.Prefix != "" {
		s.prefix = options.Prefix
	}
	return s
}

var (
	errNilClient = errors.New("the redis client is nil")
	errNilStore  = errors.New("redisstore: the store is a nil pointer")
)

// checkClient returns an error for a client that cannot keep a fence, because it
// moves keys to servers without their records, or reads stale records.
func checkClient(rdb redis.UniversalClient) error {
	if isNil(rdb) {
		return errNilClient
	}
	switch c := rdb.(type) {
	case *redis.Ring:
		return errors.New("a redis.Ring moves the keys of a shard that is down to other shards, where work that is done would run again: use a single server, Sentinel or a Cluster")
	case *redis.ClusterClient:
		if o := c.Options(); o.ReadOnly { // RouteByLatency and RouteRandomly set it too
			return errors.New("ClusterOptions.ReadOnly, RouteByLatency or RouteRandomly is set, and replicas lag behind their master: leave all three unset")
		}
	}
	return nil
}

// isNil reports whether rdb is nil or holds a nil pointer, as after a forgotten
// assignment.
func isNil(rdb redis.UniversalClient) bool {
	v := reflect.ValueOf(rdb)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

// Check returns an error if the Store can never work, because its client is nil or
// unsuitable. It does not connect. [handoff.NewRouter] calls it.
func (s *Store) Check() error {
	if s == nil {
		return errNilStore
	}
	if s.err != nil {
		return fmt.Errorf("redisstore: %w", s.err)
	}
	return nil
}

// Claim implements [handoff.Store].
func (s *Store) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	args := []string{claimHead(l), window(l)}
	if l.Freed != "" {
		args = append(args, l.Freed)
	}
	response, err := s.run(ctx, l, &claimScript, args...)
	if err != nil {
		return handoff.Claim{}, fmt.Errorf("redisstore: claim: %w", err)
	}
	c, err := parseClaim(response)
	if err != nil {
		return handoff.Claim{}, fmt.Errorf("redisstore: claim: %w", err)
	}
	return c, nil
}

func parseClaim(response any) (handoff.Claim, error) {
	switch v := response.(type) {
	case int64:
		if v < 0 {
			return handoff.Claim{Status: handoff.ClaimBusy, Left: time.Duration(-v) * time.Microsecond}, nil
		}
		if v > 0 {
			return handoff.Claim{Status: handoff.ClaimAcquired, Attempt: 1, Token: v, First: time.UnixMicro(v)}, nil
		}
	case string:
		if status, ok := refusals[v]; ok {
			return handoff.Claim{Status: status}, nil
		}
	case []any:
		if c, ok := parseHeldClaim(reply{values: v}); ok {
			return c, nil
		}
	}
	return handoff.Claim{}, unexpected(response)
}

var refusals = map[string]handoff.ClaimStatus{
	"done": handoff.ClaimDone, "superseded": handoff.ClaimSuperseded, "released": handoff.ClaimBusy,
}

func parseHeldClaim(r reply) (c handoff.Claim, ok bool) {
	state := r.text()
	if state == "dead" {
		c.Status, c.Letter = handoff.ClaimDead, r.text()
		return c, r.whole()
	}
	c.Attempt, c.Token, c.First = int(r.number()), r.number(), time.UnixMicro(r.number())
	if state == "ending" {
		c.Status, c.Note = handoff.ClaimEnding, []byte(r.text())
		return c, r.whole()
	}
	c.Status, c.Crashed, c.Memo = handoff.ClaimAcquired, r.number() == 1, r.bytes()
	return c, r.whole() && state == "running"
}

// Renew implements [handoff.Store]. It sends one pipeline to each Redis node, so a
// node that does not respond delays no leases of other nodes.
func (s *Store) Renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	held, err := s.renew(ctx, leases)
	if err != nil {
		return held, fmt.Errorf("redisstore: renew: %w", err)
	}
	return held, nil
}

// renewal is the result of renewing the leases of one node.
type renewal struct {
	leases []int // their indexes in the arguments of Renew
	held   []bool
	err    error
}

func (s *Store) renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	byNode := make(map[*node][]int)
	for i, l := range leases {
		if err := s.check(ctx, l); err != nil {
			return nil, err
		}
		n, err := s.nodes.of(ctx, s.prefix+l.Key)
		if err != nil {
			return nil, err
		}
		byNode[n] = append(byNode[n], i)
	}
	results := make(chan renewal, len(byNode)) // buffered, so that no goroutine blocks after ctx has ended
	for _, places := range byNode {
		go func() { results <- s.renewSome(ctx, leases, places) }()
	}
	held := make([]bool, len(leases))
	var errs []error
	for range byNode {
		select {
		case renewed := <-results:
			for i, place := range renewed.leases {
				held[place] = renewed.held[i]
			}
			errs = append(errs, renewed.err)
		case <-ctx.Done():
			return held, ctx.Err()
		}
	}
	return held, errors.Join(errs...)
}

// renewSome renews the leases of one node. It sends nothing more once ctx has
// ended; the client's own timeouts bound a read that has begun.
func (s *Store) renewSome(ctx context.Context, leases []handoff.Lease, places []int) renewal {
	form := s.flags.form(&renewScript)
	cmds := s.pipeline(ctx, leases, places, form.call)
	if slices.ContainsFunc(cmds, func(c *redis.Cmd) bool { return isUnknownScript(c.Err()) }) {
		cmds = s.pipeline(ctx, leases, places, form.load) // renewing a lease twice is harmless
	}
	if slices.ContainsFunc(cmds, func(c *redis.Cmd) bool { return s.flags.refused(form, c.Err()) }) {
		return s.renewSome(ctx, leases, places)
	}
	r := renewal{leases: places, held: make([]bool, len(places))}
	for i, cmd := range cmds {
		held, err := parseHeld(cmd.Result())
		r.held[i] = held
		r.err = cmp.Or(r.err, explained(err))
	}
	return r
}

func (s *Store) pipeline(ctx context.Context, leases []handoff.Lease, places []int, command func(ctx context.Context, keys []string, args ...string) *redis.Cmd) []*redis.Cmd {
	pipe := s.nodes.rdb.Pipeline()
	cmds := make([]*redis.Cmd, len(places))
	for i, place := range places {
		l := leases[place]
		cmds[i] = command(ctx, []string{s.prefix + l.Key}, ownerMark(l.Owner), window(l), strconv.FormatInt(millis(l.TTL), 10))
		_ = pipe.Process(ctx, cmds[i])
	}
	_, _ = pipe.Exec(ctx) // the errors are in the commands
	return cmds
}

// Keep implements [handoff.Store].
func (s *Store) Keep(ctx context.Context, l handoff.Lease, memo []byte) error {
	if len(memo) > handoff.MaxMemo {
		return fmt.Errorf("redisstore: keep: the memo has %d bytes, must be %d at most", len(memo), handoff.MaxMemo)
	}
	return s.change(ctx, "keep", l, &keepScript, string(memo))
}

// End implements [handoff.Store].
func (s *Store) End(ctx context.Context, l handoff.Lease, note []byte) error {
	return s.change(ctx, "end", l, &endScript, string(note))
}

// Complete implements [handoff.Store].
func (s *Store) Complete(ctx context.Context, l handoff.Lease) error {
	var as []string
	switch {
	case l.Letter != "":
		as = []string{"dead", l.Letter}
	case l.Opens == handoff.OpensNext:
		as = []string{"next"}
	case l.Opens == handoff.OpensContinued:
		as = []string{"continued"}
	case l.Opens == handoff.OpensUncounted:
		as = []string{"uncounted"}
	}
	return s.change(ctx, "complete", l, &completeScript, as...)
}

// Release implements [handoff.Store].
func (s *Store) Release(ctx context.Context, l handoff.Lease, counted bool) error {
	counts := "0"
	if counted {
		counts = "1"
	}
	return s.change(ctx, "release", l, &releaseScript, counts)
}

// change runs a script that returns 1, or 0 if the lease is lost.
func (s *Store) change(ctx context.Context, verb string, l handoff.Lease, sc *script, args ...string) error {
	held, err := parseHeld(s.run(ctx, l, sc, append([]string{ownerMark(l.Owner), window(l)}, args...)...))
	if err == nil && !held {
		err = handoff.ErrLeaseLost
	}
	if err != nil {
		return fmt.Errorf("redisstore: %s: %w", verb, err)
	}
	return nil
}

func parseHeld(response any, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	if v, ok := response.(int64); ok && (v == 0 || v == 1) {
		return v == 1, nil
	}
	return false, unexpected(response)
}

// unexpected names only the type of a response: its value may be another
// application's data.
func unexpected(response any) error {
	return fmt.Errorf("unexpected response of type %T; the server must be Redis or Valkey, and only handoff may write keys with this prefix", response)
}

// run runs one script on the record of a lease.
func (s *Store) run(ctx context.Context, l handoff.Lease, sc *script, args ...string) (any, error) {
	if err := s.check(ctx, l); err != nil {
		return nil, err
	}
	return s.runOn(ctx, l.Key, sc, args...)
}

func (s *Store) runOn(ctx context.Context, key string, sc *script, args ...string) (any, error) {
	keys := []string{s.prefix + key}
	node, err := s.nodes.of(ctx, keys[0])
	if err != nil {
		return nil, err
	}
	form := s.flags.form(sc)
	cmd := form.call(ctx, keys, args...)
	err = node.do(ctx, cmd)
	if isUnknownScript(err) {
		cmd = form.load(ctx, keys, args...)
		err = node.do(ctx, cmd)
	}
	if s.flags.refused(form, err) {
		return s.runOn(ctx, key, sc, args...)
	}
	if err != nil {
		return nil, explained(err) // do not read cmd: it may still be in progress
	}
	return cmd.Val(), nil
}

func (s *Store) check(ctx context.Context, l handoff.Lease) error {
	if s.err != nil {
		return s.err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.Validate()
}

// ownerMark returns an owner in the form of records: 18 digits, whatever its
// length.
func ownerMark(owner string) string {
	var buf [20]byte
	return string(appendOwnerMark(buf[:0], owner))
}

func appendOwnerMark(b []byte, owner string) []byte {
	const digits = 1_000_000_000_000_000_000
	sum := sha256.Sum256([]byte(owner))
	// The leading 1 keeps leading zeros, and is then cut off.
	n := len(b)
	b = strconv.AppendUint(b, digits+binary.BigEndian.Uint64(sum[:])%digits, 10)
	return append(b[:n], b[n+1:]...)
}

func claimHead(l handoff.Lease) string {
	var buf [64]byte
	b := appendOwnerMark(buf[:0], l.Owner)
	b = strconv.AppendInt(b, millis(l.TTL), 10)
	b = strconv.AppendInt(append(b, ' '), int64(l.Redrives), 10)
	b = strconv.AppendInt(append(b, ' '), int64(l.Generation), 10)
	return string(append(b, ' '))
}

// Redis takes whole units. Times are rounded up, so that a short one does not
// become 0. Lua's numbers hold exact microseconds for about 280 years from 1970, so
// times are limited to a century.
const forever = 100 * 365 * 24 * time.Hour

func millis(d time.Duration) int64 {
	return int64((min(d, forever)-1)/time.Millisecond) + 1
}

func window(l handoff.Lease) string { return strconv.FormatInt(millis(l.Window), 10) }
