//go:build !linux

package engine

import "errors"

// wakeup is for Linux: elsewhere the runtime's timers are exact enough.
type wakeup struct{}

func (*wakeup) open() error { return errors.ErrUnsupported }
func (*wakeup) set(int64)   {}
func (*wakeup) wait() bool  { return false }
func (*wakeup) close()      {}
