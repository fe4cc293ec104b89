package diff

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// maxCodings bounds a chain of content codings.
const maxCodings = 4

// codings is the value of Content-Encoding in a canonical form: lower case,
// without identity, x-gzip as gzip (RFC 9110 section 8.4.1), joined by commas
// in the order in which they were applied. "" is no coding.
func codings(h exchange.Header) string {
	var all string
	for i := range h {
		if !equalFold(h[i].Name, "content-encoding") {
			continue
		}
		for v := h[i].Value; v != ""; {
			var one string
			one, v, _ = strings.Cut(v, ",")
			switch one = lower(strings.Trim(one, " \t")); one {
			case "", "identity":
				continue
			case "x-gzip":
				one = "gzip"
			}
			if all == "" {
				all = one
			} else {
				all += "," + one
			}
		}
	}
	return all
}

// decoder takes off content codings, into memory that it uses again.
type decoder struct {
	src  bytes.Reader
	gzip *gzip.Reader
	zlib io.ReadCloser
	raw  io.ReadCloser
	br   *brotli.Reader
	zstd *zstd.Decoder
	out  []byte
}

// decode gives body without its codings, or the reason in fixed words why it
// can't. What it gives is body itself or valid until the next call. Each stage
// gives at most limit bytes.
func (d *decoder) decode(codings string, body []byte, limit int64) (decoded []byte, reason string) {
	if strings.Count(codings, ",") >= maxCodings {
		return nil, "more content codings than the limit"
	}
	for codings != "" && len(body) > 0 { // nothing is nothing in every coding
		i := strings.LastIndexByte(codings, ',')
		one := codings[i+1:]
		codings = codings[:max(i, 0)]
		switch one {
		case "gzip", "deflate", "br", "zstd":
		default:
			return nil, "content coding " + knownCoding(one) + " is not decoded"
		}
		d.src.Reset(body)
		r, err := d.reader(one, body)
		if err == nil {
			body, err = d.read(r, limit)
		}
		if err == nil && d.src.Len() > 0 {
			err = errTrailing
		}
		switch {
		case errors.Is(err, errOverLimit):
			return nil, one + " decodes to more than the limit"
		case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
			return nil, one + " is cut"
		case err != nil:
			return nil, one + " is corrupt"
		}
		if codings != "" {
			d.out = nil // the next stage reads what this one wrote
		}
	}
	return body, ""
}

// knownCoding keeps the answers' own bytes out of details.
func knownCoding(one string) string {
	switch one {
	case "compress", "x-compress", "dcb", "dcz":
		return one
	}
	return "(unknown)"
}

func (d *decoder) reader(coding string, body []byte) (io.Reader, error) {
	switch coding {
	case "gzip":
		if d.gzip == nil {
			d.gzip = new(gzip.Reader)
		}
		return d.gzip, d.gzip.Reset(&d.src)
	case "br":
		if d.br == nil {
			d.br = brotli.NewReader(&d.src)
			return d.br, nil
		}
		return d.br, d.br.Reset(&d.src)
	case "zstd":
		if d.zstd == nil {
			z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
			if err != nil {
				return nil, err
			}
			d.zstd = z
		}
		return d.zstd, d.zstd.Reset(&d.src)
	}
	// RFC 9110 section 8.4.1.2 says zlib; some servers send the bare stream.
	if len(body) >= 2 && body[0]&15 == 8 && (uint(body[0])<<8|uint(body[1]))%31 == 0 {
		if d.zlib == nil {
			z, err := zlib.NewReader(&d.src)
			d.zlib = z
			return z, err
		}
		return d.zlib, d.zlib.(zlib.Resetter).Reset(&d.src, nil)
	}
	if d.raw == nil {
		d.raw = flate.NewReader(&d.src)
		return d.raw, nil
	}
	return d.raw, d.raw.(flate.Resetter).Reset(&d.src, nil)
}

// maxZstdWindow is what a decoder of the content coding must be able to hold,
// and no encoder may ask for more (RFC 9659 section 3), in bytes.
const maxZstdWindow = 8 << 20

var (
	errOverLimit = errors.New("decoded body over the limit")
	errTrailing  = errors.New("bytes after the coded body")
)

// read reads r to its end into d.out.
func (d *decoder) read(r io.Reader, limit int64) ([]byte, error) {
	b := d.out[:0]
	if cap(b) == 0 {
		b = make([]byte, 0, min(4<<10, limit+1))
	}
	for {
		if len(b) == cap(b) {
			b = append(make([]byte, 0, min(2*int64(cap(b)), limit+1)), b...)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		d.out = b
		if int64(len(b)) > limit {
			return nil, errOverLimit
		}
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// release forgets the body, and memory that is too large to keep.
func (d *decoder) release() {
	d.src.Reset(nil)
	if cap(d.out) > 1<<20 {
		d.out = nil
	}
}
