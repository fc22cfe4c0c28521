package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Sentinel runs a sentinel that watches master under the given name, and returns
// the sentinel's host:port. It starts a failover without a vote of others, after
// the master has been down for half a second.
func Sentinel(t testing.TB, name string, master *Server) (addr string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "sentinel.conf") // the sentinel also writes its state to this file
	text := fmt.Sprintf("sentinel monitor %[1]s 127.0.0.1 %[2]s 1\nsentinel down-after-milliseconds %[1]s 500\n", name, master.port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, bin: binary(t), dir: t.TempDir(), config: config, args: []string{"--sentinel"}}
	s.run()
	return s.Addr()
}
