package diff

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

const detailTruncated = "the body is over the limit and has a content coding or no digest"

// body compares the bodies. It sets carried and decoded for the header rules.
func (c *comparison) body(req *exchange.Request, ref, cand *exchange.Response) {
	c.begin(AspectBody)
	if req.Method == "HEAD" || bodiless(ref.Status) && bodiless(cand.Status) {
		return // the length that the head names is all there is to compare
	}
	a, b := &ref.Body, &cand.Body
	c.carried = true
	if !whole(a) || !whole(b) {
		c.largeBody(ref, cand)
		return
	}
	codA, codB := codings(ref.Header), codings(cand.Header)
	if codA == codB && bytes.Equal(a.Bytes, b.Bytes) {
		c.decoded = true
		return
	}
	da, reason := c.decodeA.decode(codA, a.Bytes, c.rules.limits.decoded)
	side := "the reference"
	var db []byte
	if reason == "" {
		side = "the candidate"
		db, reason = c.decodeB.decode(codB, b.Bytes, c.rules.limits.decoded)
	}
	if reason != "" {
		at := firstDifference(a.Bytes, b.Bytes)
		c.add(Difference{
			Kind: KindNotFullyCompared, Reference: c.bytesValue(a.Bytes, at), Candidate: c.bytesValue(b.Bytes, at), Detail: side + ": " + reason,
		})
		return
	}
	c.decoded = true
	switch {
	case bytes.Equal(da, db):
	case len(da) == 0:
		c.add(Difference{Kind: KindAdded, Candidate: c.bytesValue(db, 0)})
	case len(db) == 0:
		c.add(Difference{Kind: KindRemoved, Reference: c.bytesValue(da, 0)})
	case c.excuse != "":
		c.bytesBody(da, db, "") // nobody asks how they differ
	default:
		c.grpcCodings = [2]string{grpcCoding(ref.Header), grpcCoding(cand.Header)}
		c.target = req.Target
		c.content(mediaOf(ref.Header), mediaOf(cand.Header), da, db)
	}
}

// bodiless says whether an answer of that status never has a body (RFC 9112
// section 6.3).
func bodiless(status int) bool { return status/100 == 1 || status == 204 || status == 304 }

func whole(b *exchange.Body) bool { return !b.Truncated && int64(len(b.Bytes)) >= b.Size }

// largeBody compares what is kept of bodies over the limit: the lengths, and
// where they are equal the digests.
func (c *comparison) largeBody(ref, cand *exchange.Response) {
	a, b := &ref.Body, &cand.Body
	codA, codB := codings(ref.Header), codings(cand.Header)
	sumA, sumB, known := digests(a, b)
	n := min(len(a.Bytes), len(b.Bytes))
	switch {
	case codA == codB && known && sumA == sumB:
	case codA != "" || codB != "":
		// Other bytes may stand for the same content.
		c.add(Difference{Kind: KindNotFullyCompared, Reference: lengthValue(a), Candidate: lengthValue(b), Detail: detailTruncated})
	case a.Size != b.Size:
		c.add(Difference{Kind: KindLength, Reference: lengthValue(a), Candidate: lengthValue(b)})
	case known:
		c.add(Difference{Kind: KindDigest, Reference: digestValue(sumA), Candidate: digestValue(sumB)})
	case !bytes.Equal(a.Bytes[:n], b.Bytes[:n]):
		c.add(c.bytesDifference(a.Bytes, b.Bytes, ""))
	default:
		c.add(Difference{Kind: KindNotFullyCompared, Reference: lengthValue(a), Candidate: lengthValue(b), Detail: detailTruncated})
	}
}

// digests gives the SHA-256 of two contents of the same length, if both are known.
func digests(a, b *exchange.Body) (x, y [sha256.Size]byte, known bool) {
	if a.Size != b.Size {
		return x, y, false
	}
	x, okX := a.Sum256()
	y, okY := b.Sum256()
	return x, y, okX && okY
}

func lengthValue(b *exchange.Body) Value { return numberValue(b.Size) }

func numberValue(n int64) Value {
	s := strconv.FormatInt(n, 10)
	return Value{Kind: ValueNumber, Text: s, Size: int64(len(s))}
}

func digestValue(sum [sha256.Size]byte) Value {
	return Value{Kind: ValueString, Text: hex.EncodeToString(sum[:]), Size: 2 * sha256.Size}
}

// bytesBody adds the one difference of two bodies, or parts, that are compared
// as bytes. said is what its Detail begins with.
func (c *comparison) bytesBody(ref, cand []byte, said string) {
	d := c.bytesDifference(ref, cand, said)
	if c.room(false) {
		d.Reference.SHA256, d.Candidate.SHA256 = hexSHA256(ref), hexSHA256(cand)
	}
	c.add(d)
}

func (c *comparison) bytesDifference(ref, cand []byte, said string) Difference {
	at := firstDifference(ref, cand)
	return Difference{
		Kind: KindChanged, Path: c.rootPath(), Reference: c.bytesValue(ref, at), Candidate: c.bytesValue(cand, at),
		Detail: fmt.Sprintf("%sthe first difference is at byte %d", said, at),
	}
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// firstDifference is the length of the longest prefix that a and b share.
func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for i+256 <= n && bytes.Equal(a[i:i+256], b[i:i+256]) {
		i += 256
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// bytesValue is a piece of b as a Value with text of its own, with the byte at
// in its first quarter when b is too long for the whole.
func (c *comparison) bytesValue(b []byte, at int) Value {
	v := Value{Kind: ValueBytes, Size: int64(len(b))}
	most := c.rules.limits.value
	if len(b) > most {
		v.Truncated = true
		start := max(0, min(at-most/4, len(b)-most))
		for k := 0; k < 3 && start > 0 && start < len(b) && !utf8.RuneStart(b[start]); k++ {
			start++
		}
		v.Offset = int64(start)
		b = b[start:]
		if len(b) > most {
			b = cutText(b, most)
		}
	}
	v.Text = string(b)
	return v
}

// cutText cuts b, which is longer than n, to at most n bytes and not within a
// character.
func cutText(b []byte, n int) []byte {
	for k := n; k > n-utf8.UTFMax && k > 0; k-- {
		if utf8.RuneStart(b[k]) {
			return b[:k]
		}
	}
	return b[:n]
}
