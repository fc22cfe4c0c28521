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

	// Prefix is put before every fence key, to keep apart what shares a
	// server and to name it in an ACL. Defaults to "handoff:". Up to 8
	// characters cost nothing; longer ones cost 16 bytes a task and more. All
	// workers of a queue must have the same.
	Prefix string
}

const defaultPrefix = "handoff:"

// Store is a [handoff.KeyStore] in Redis. It is safe for concurrent use. It holds
// no resources of its own: close the client when the router has shut down.
type Store struct {
	nodes  nodes
	flags  flags
	prefix string
	err    error
}

var _ handoff.KeyStore = (*Store)(nil)

// New returns a Store on a client of a single server, of Sentinel or of a
// Cluster. Nil options are the defaults. New does not connect. With a nil
// client, a redis.Ring, or a Cluster client that reads from replicas,
// [Store.Check] and every call return an error that says so.
//
// Turn on ContextTimeoutEnabled in the client's options. Every call honours
// its context without it too, but a call that is alone then needs a goroutine
// to wait in, which costs it half as much again.
//
// Calls that come at the same time share round trips, so the client needs no
// more than a few connections for the Store.
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

// checkClient returns an error for a client that cannot keep a fence: one that
// moves keys to servers which know nothing of them, or reads what is out of date.
func checkClient(rdb redis.UniversalClient) error {
	if isNil(rdb) {
		return errNilClient
	}
	switch c := rdb.(type) {
	case *redis.Ring:
		return errors.New("a redis.Ring moves the keys of a shard that is down to others, where work that is done would run again: use a single server, Sentinel or a Cluster")
	case *redis.ClusterClient:
		if o := c.Options(); o.ReadOnly { // RouteByLatency and RouteRandomly set it, too
			return errors.New("ClusterOptions.ReadOnly, RouteByLatency or RouteRandomly is set, and replicas are behind their master: leave them out")
		}
	}
	return nil
}

// isNil also finds a nil pointer in the interface, as a forgotten assignment
// leaves it.
func isNil(rdb redis.UniversalClient) bool {
	v := reflect.ValueOf(rdb)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

// Check returns an error if the Store cannot work, whatever the state of its
// server: because its client is nil. [handoff.NewRouter] calls it.
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
	answer, err := s.run(ctx, l, &claimScript, args...)
	if err != nil {
		return handoff.Claim{}, fmt.Errorf("redisstore: claim: %w", err)
	}
	c, err := parseClaim(answer)
	if err != nil {
		return handoff.Claim{}, fmt.Errorf("redisstore: claim: %w", err)
	}
	return c, nil
}

func parseClaim(answer any) (handoff.Claim, error) {
	switch v := answer.(type) {
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
	return handoff.Claim{}, unexpected(answer)
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

// Renew implements [handoff.Store], in one pipeline for each Redis node. With a
// node that does not answer, it still renews the leases of the others.
func (s *Store) Renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	held, err := s.renew(ctx, leases)
	if err != nil {
		return held, fmt.Errorf("redisstore: renew: %w", err)
	}
	return held, nil
}

// renewal is what became of the leases of one node.
type renewal struct {
	leases []int // their places in the call
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
	answers := make(chan renewal, len(byNode)) // none blocks when ctx has ended
	for _, places := range byNode {
		go func() { answers <- s.renewSome(ctx, leases, places) }()
	}
	held := make([]bool, len(leases))
	var errs []error
	for range byNode {
		select {
		case answer := <-answers:
			for i, place := range answer.leases {
				held[place] = answer.held[i]
			}
			errs = append(errs, answer.err)
		case <-ctx.Done():
			return held, ctx.Err()
		}
	}
	return held, errors.Join(errs...)
}

// renewSome sends nothing again once ctx has ended. A read that has begun is
// bounded by the client's own timeouts.
func (s *Store) renewSome(ctx context.Context, leases []handoff.Lease, places []int) renewal {
	form := s.flags.form(&renewScript)
	cmds := s.pipeline(ctx, leases, places, form.call)
	if slices.ContainsFunc(cmds, func(c *redis.Cmd) bool { return isUnknownScript(c.Err()) }) {
		cmds = s.pipeline(ctx, leases, places, form.load) // renewing twice does no harm
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

// change runs a script that answers 1, or 0 if the lease is lost.
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

func parseHeld(answer any, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	if v, ok := answer.(int64); ok && (v == 0 || v == 1) {
		return v == 1, nil
	}
	return false, unexpected(answer)
}

// unexpected tells the type only: the answer may be anybody's data.
func unexpected(answer any) error {
	return fmt.Errorf("unexpected answer of type %T; is this Redis, and is the key of a handoff record?", answer)
}

// run carries out one script on the record of a lease.
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
		return nil, explained(err) // and cmd may still be on its way
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

// ownerMark is the owner as records keep it: 18 digits, whatever its length.
func ownerMark(owner string) string {
	var buf [20]byte
	return string(appendOwnerMark(buf[:0], owner))
}

func appendOwnerMark(b []byte, owner string) []byte {
	const digits = 1_000_000_000_000_000_000
	sum := sha256.Sum256([]byte(owner))
	// The leading 1 keeps the zeros; it is cut off.
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

// Redis counts in whole units; rounding up keeps a short time from being none.
// Lua's numbers are exact to the microsecond for some 280 years from 1970, so
// for ever is a century.
const forever = 100 * 365 * 24 * time.Hour

func millis(d time.Duration) int64 {
	return int64((min(d, forever)-1)/time.Millisecond) + 1
}

func window(l handoff.Lease) string { return strconv.FormatInt(millis(l.Window), 10) }
