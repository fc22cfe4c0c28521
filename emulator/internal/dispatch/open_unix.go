//go:build unix

package dispatch

import (
	"errors"
	"net"
	"syscall"
)

// seesClosed says that isOpen can tell.
const seesClosed = true

// isOpen says whether the other end of an idle connection still holds it open
// and has sent nothing that nobody asked for.
func isOpen(c net.Conn) bool {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK) // the descriptor does not block
		open = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return open && err == nil
}
