package http2

import (
	"encoding/binary"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// The table of a decoder that rests is frozen, as the list of its fields from the
// oldest on, each of which is
//
//	name    0 and a text; or 1 to 61, a name of the static table; or 62 + k: the
//	        name of the k-th field before the last one
//	shared  behind 62 + k only: how many bytes of its value are that field's
//	value   a text: the value, or what is behind the shared bytes
//
// Numbers are as in encoding/binary.Uvarint. A text is its length, doubled, and its
// bytes; or, one more than doubled, the length of its bytes by Huffman's code (RFC
// 7541 appendix B). Tables fill with values that begin alike, paths and dates.

// staticFields is how many fields the static table has (RFC 7541 appendix A).
const staticFields = 61

// frozenWindow is among how many fields one with the same name is looked for.
const frozenWindow = 64

// freezer is what a parser needs for freezing and thawing.
type freezer struct {
	names   map[string]uint64 // of the static table: the first index of each
	entries []hpack.HeaderField
	note    func(hpack.HeaderField) // adds to entries
	index   []byte                  // a block: the index of one
	frozen  []byte
	// The fields that thaw read, and their text.
	thawed []thawed
	text   textBuffer
	block  []byte
}

// thawed is a field: where its name and its value stand in freezer.text. The name may be
// one of the static table.
type thawed struct {
	static      uint64
	name, value [2]int
}

type textBuffer []byte

// Write implements io.Writer.
func (t *textBuffer) Write(b []byte) (int, error) { *t = append(*t, b...); return len(b), nil }

func newFreezer() *freezer {
	f := &freezer{names: staticNames()}
	f.note = func(x hpack.HeaderField) { f.entries = append(f.entries, x) }
	return f
}

// freeze writes down the table of d. It is valid until the next call.
func (p *Parser) freeze(d *hpack.Decoder) []byte {
	f := p.freezer
	f.entries = f.entries[:0]
	d.SetEmitFunc(f.note)
	d.SetEmitEnabled(true)
	// The entries, from the newest on, up to the first index that is none.
	for i, err := uint64(staticFields+1), error(nil); err == nil; i++ {
		f.index = appendInt(f.index[:0], 0x80, 7, i)
		_, err = d.Write(f.index)
	}
	_ = d.Close() // ready for the next block
	d.SetEmitFunc(p.emitField)
	b := f.frozen[:0]
	for i := len(f.entries) - 1; i >= 0; i-- {
		x := &f.entries[i]
		like, shared := f.like(i)
		switch {
		case like > i:
			b = binary.AppendUvarint(b, staticFields+uint64(like-i))
			b = binary.AppendUvarint(b, uint64(shared))
		case f.names[x.Name] != 0:
			b = binary.AppendUvarint(b, f.names[x.Name])
		default:
			b = appendText(append(b, 0), x.Name)
		}
		b = appendText(b, x.Value[shared:])
	}
	clear(f.entries)
	f.frozen = b
	return b
}

// like finds the older field with the name of entry i whose value is most like its
// value, and how many bytes they begin with are the same. It is i without one.
func (f *freezer) like(i int) (like, shared int) {
	x := &f.entries[i]
	like = i
	for j := i + 1; j < len(f.entries) && j <= i+frozenWindow; j++ {
		y := &f.entries[j]
		if y.Name != x.Name {
			continue
		}
		if like == i {
			like = j
		}
		if !strings.HasPrefix(y.Value, x.Value[:shared]) {
			continue
		}
		n := shared
		for n < len(x.Value) && n < len(y.Value) && x.Value[n] == y.Value[n] {
			n++
		}
		if n > shared {
			like, shared = j, n
		}
	}
	return like, shared
}

// thaw gives a decoder with a table of the given size that holds what was frozen.
func (p *Parser) thaw(size uint32, frozen []byte) *hpack.Decoder {
	d := p.newDecoder()
	if size != firstTable {
		d.SetMaxDynamicTableSize(size)
	}
	d.SetEmitEnabled(false)
	_, err := d.Write(p.freezer.melt(frozen))
	if end := d.Close(); err != nil || end != nil {
		panic("http2: what was frozen is no header block") // a defect of this package
	}
	return d
}

// melt makes a header block of a frozen table that builds it anew (RFC 7541 section
// 6.2.1). It is valid until the next call.
func (f *freezer) melt(b []byte) []byte {
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		b = b[n:]
		return v
	}
	// text reads one behind what begins it and gives its place.
	text := func(from int) [2]int {
		n := next()
		raw := b[:n>>1]
		b = b[n>>1:]
		if n&1 == 0 {
			f.text = append(f.text, raw...)
		} else if _, err := hpack.HuffmanDecode(&f.text, raw); err != nil {
			panic("http2: a text is not in Huffman's code") // a defect of this package
		}
		return [2]int{from, len(f.text)}
	}
	f.thawed, f.text = f.thawed[:0], f.text[:0]
	block := f.block[:0]
	for len(b) > 0 {
		var x thawed
		start := 0
		switch name := next(); {
		case name == 0:
			x.name = text(len(f.text))
			start = len(f.text)
		case name <= staticFields:
			x.static = name
			start = len(f.text)
		default:
			y := &f.thawed[len(f.thawed)-int(name-staticFields)]
			x.static, x.name = y.static, y.name
			start = len(f.text)
			f.text = append(f.text, f.text[y.value[0]:][:next()]...)
		}
		x.value = text(start)
		f.thawed = append(f.thawed, x)
		if block = appendInt(block, 0x40, 6, x.static); x.static == 0 {
			block = f.appendString(block, x.name)
		}
		block = f.appendString(block, x.value)
	}
	f.block = block
	return block
}

// appendString writes a string of f.text (RFC 7541 section 5.2).
func (f *freezer) appendString(b []byte, at [2]int) []byte {
	return append(appendInt(b, 0, 7, uint64(at[1]-at[0])), f.text[at[0]:at[1]]...)
}

// appendText writes a text, by Huffman's code where that is shorter.
func appendText(b []byte, s string) []byte {
	if n := hpack.HuffmanEncodeLength(s); n < uint64(len(s)) {
		return hpack.AppendHuffmanString(binary.AppendUvarint(b, n<<1|1), s)
	}
	return append(binary.AppendUvarint(b, uint64(len(s))<<1), s...)
}

// staticNames gives the first index of each name in the static table.
func staticNames() map[string]uint64 {
	names := make(map[string]uint64)
	i := uint64(0)
	d := hpack.NewDecoder(0, func(f hpack.HeaderField) {
		if names[f.Name] == 0 {
			names[f.Name] = i
		}
	})
	for i = 1; i <= staticFields; i++ {
		_, _ = d.Write([]byte{0x80 | byte(i)}) // whole, and in the table
	}
	return names
}

// appendInt writes an integer with a prefix of n bits behind the bits of kind
// (RFC 7541 section 5.1).
func appendInt(b []byte, kind byte, n uint, v uint64) []byte {
	most := uint64(1)<<n - 1
	if v < most {
		return append(b, kind|byte(v))
	}
	b = append(b, kind|byte(most))
	return binary.AppendUvarint(b, v-most)
}
