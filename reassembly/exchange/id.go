package exchange

import (
	"crypto/sha256"
	"encoding/hex"
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
	var space [192]byte // enough without zones; only what is returned is allocated
	b := append(space[:0], f.Domain...)
	b = appendEndpoint(append(b, 0), f.Client)
	b = appendEndpoint(append(b, 0), f.Server)
	b = append(b, 0)
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[isn>>shift&15])
	}
	b = strconv.AppendUint(append(b, 0), offset, 10)
	sum := sha256.Sum256(b)
	var id [16]byte
	hex.Encode(id[:], sum[:8])
	return ID(id[:])
}

func appendEndpoint(b []byte, a netip.AddrPort) []byte {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).AppendTo(b)
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
