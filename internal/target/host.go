package target

import (
	"net/netip"
	"strings"
)

// IsDevelopment reports whether a host, without a port, is for development: this
// machine, a private address, or a name that is not in the public DNS. Such names are
// localhost, names that end in .localhost, .local or .internal, and single labels,
// such as those of containers. A single label that is a number does not count:
// browsers and resolvers read it as an IPv4 address.
func IsDevelopment(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err == nil {
		addr = addr.Unmap()
		return addr.IsLoopback() || addr.IsPrivate() || addr.IsUnspecified()
	}
	dot := strings.LastIndexByte(host, '.')
	if dot < 0 {
		return host != "" && !isNumber(host)
	}
	switch host[dot+1:] {
	case "localhost", "local", "internal":
		return true
	}
	return false
}

// isNumber reports whether a label reads as a number, decimal or hexadecimal.
func isNumber(label string) bool {
	digits, hexadecimal := strings.CutPrefix(label, "0x")
	for i := range len(digits) {
		if c := digits[i]; !('0' <= c && c <= '9') && !(hexadecimal && isHex(c)) {
			return false
		}
	}
	return digits != "" || hexadecimal
}
