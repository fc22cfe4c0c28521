package pgtest_test

import (
	"net"
	"testing"

	"github.com/brillconsulting/handoff/internal/pgtest"
)

func TestServer(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	s.Kill()
	if conn, err := net.Dial("tcp", s.Addr()); err == nil {
		_ = conn.Close()
		t.Fatal("a killed server still responds")
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}
