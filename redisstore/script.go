package redisstore

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed record.lua
	recordLua string
	//go:embed parse.lua
	parseLua string
	//go:embed claim_first.lua
	claimFirstLua string
	//go:embed claim_again.lua
	claimAgainLua string
	//go:embed renew.lua
	renewLua string
	//go:embed keep.lua
	keepLua string
	//go:embed end.lua
	endLua string
	//go:embed complete_done.lua
	completeDoneLua string
	//go:embed complete_open.lua
	completeOpenLua string
	//go:embed release.lua
	releaseLua string
	//go:embed key_show.lua
	keyShowLua string
	//go:embed key_free.lua
	keyFreeLua string

	claimScript    = newScript(recordLua + claimFirstLua + parseLua + claimAgainLua)
	renewScript    = newVitalScript(recordLua + parseLua + renewLua)
	keepScript     = newVitalScript(recordLua + parseLua + keepLua)
	endScript      = newVitalScript(recordLua + parseLua + endLua)
	completeScript = newVitalScript(recordLua + completeDoneLua + parseLua + completeOpenLua)
	releaseScript  = newVitalScript(recordLua + parseLua + releaseLua)
	keyShowScript  = newVitalScript(recordLua + parseLua + keyShowLua)
	keyFreeScript  = newVitalScript(recordLua + parseLua + keyFreeLua)
)

// script is a Lua script, called by its hash. A server that does not know it,
// after a restart, a failover or SCRIPT FLUSH, responds NOSCRIPT and is sent the
// source. redis.Script does the same, but not in a pipeline.
type script struct {
	source string
	hash   any     // a string, as any: converted once instead of for each call
	plain  *script // the script without flags, for servers before 7.0; nil if it has none
}

func newScript(source string) script {
	sum := sha1.Sum([]byte(source))
	return script{source: source, hash: hex.EncodeToString(sum[:])}
}

// newVitalScript returns a script that may run even when Redis has reached its
// maxmemory, because it serves work that has begun or frees memory.
func newVitalScript(source string) script {
	plain := newScript(source)
	flagged := newScript("#!lua flags=allow-oom\n" + source)
	flagged.plain = &plain
	return flagged
}

// flags remembers whether a server supports script flags. Redis does since 7.0.
type flags struct{ unknown atomic.Bool }

// form returns sc, or its form without flags if the server is known to refuse
// flags.
func (f *flags) form(sc *script) *script {
	if sc.plain != nil && f.unknown.Load() {
		return sc.plain
	}
	return sc
}

// refused reports whether err means that the server does not support the flags of
// sc. If so, form returns scripts without flags from then on.
func (f *flags) refused(sc *script, err error) bool {
	if sc.plain == nil || err == nil || !redis.HasErrorPrefix(err, "Error compiling script") {
		return false
	}
	f.unknown.Store(true)
	return true
}

// explained adds a hint to the error of a server that has reached its maxmemory.
func explained(err error) error {
	if err != nil && redis.HasErrorPrefix(err, "OOM") {
		return fmt.Errorf("%w (Redis is full: raise maxmemory, or find what fills it; "+
			"Redis before 7.0 then refuses to renew and mark running work too, later versions refuse only new claims and letters)", err)
	}
	return err
}

// call returns the command that runs the script. All keys must be of one slot.
func (s *script) call(ctx context.Context, keys []string, args ...string) *redis.Cmd {
	return command(ctx, "evalsha", s.hash, keys, args)
}

// load returns the same command for a server that does not know the script.
func (s *script) load(ctx context.Context, keys []string, args ...string) *redis.Cmd {
	return command(ctx, "eval", s.source, keys, args)
}

// Check for nil first: HasErrorPrefix allocates even then.
func isUnknownScript(err error) bool { return err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") }

func command(ctx context.Context, name string, body any, keys, args []string) *redis.Cmd {
	all := make([]any, 0, 3+len(keys)+len(args))
	all = append(all, name, body, len(keys))
	for _, k := range keys {
		all = append(all, k)
	}
	for _, a := range args {
		all = append(all, a)
	}
	return redis.NewCmd(ctx, all...)
}

// isReply reports whether err is an error that Redis responded with. It is false
// if no response came.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}
