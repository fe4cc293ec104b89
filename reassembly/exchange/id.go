package exchange

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
)

// ID names an exchange: 16 lower-case hex digits, the same from every agent
// that saw the SYN under the same addresses.
type ID string

// NewID is the first 16 hex digits of SHA-256 over domain, client, server, the
// client's initial sequence number as 8 hex digits and the stream offset of
// the request (HTTP/2: the stream) in decimal, joined by one zero byte. IPv6 addresses stand in
// brackets, IPv4-mapped ones are written as IPv4.
func NewID(f Flow, isn uint32, offset uint64) ID {
	return ID(hashFields(f.Domain, endpoint(f.Client), endpoint(f.Server), fmt.Sprintf("%08x", isn), strconv.FormatUint(offset, 10)))
}

func endpoint(a netip.AddrPort) string {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
}

// For is the id of the record that one experiment makes of the exchange: the
// same hash over the exchange's id and the experiment's name.
func (id ID) For(experiment string) string { return hashFields(string(id), experiment) }

func hashFields(fields ...string) string {
	var b []byte
	for i, f := range fields {
		if i > 0 {
			b = append(b, 0)
		}
		b = append(b, f...)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
