package diff

import (
	"bytes"
	"fmt"
	"hash/maphash"
)

const (
	detailLines   = "more lines than the limit"
	detailEndings = "line endings differ, for the first time at index %d"
)

// line is a line of a text without its ending. A carriage return before the
// line feed is part of the ending.
type line struct {
	text   []byte
	ending uint8 // bytes of the ending: 0 at the end of the text, 1, or 2
}

// textBody compares two texts by their lines. The place of a line is its index
// from 0.
func (c *comparison) textBody(ref, cand []byte) {
	p := firstDifference(ref, cand)
	start := bytes.LastIndexByte(ref[:p], '\n') + 1
	first := bytes.Count(ref[:start], []byte{'\n'})
	a, b := ref[start:], cand[start:]
	// Whole lines that are the same at the end need not be looked at.
	same := 0
	for same < min(len(a), len(b)) && a[len(a)-1-same] == b[len(b)-1-same] {
		same++
	}
	if i := bytes.IndexByte(a[len(a)-same:], '\n'); i >= 0 {
		same -= i + 1
	} else {
		same = 0
	}
	la, okA := splitLines(a[:len(a)-same], c.rules.limits.items())
	lb, okB := splitLines(b[:len(b)-same], c.rules.limits.items())
	if !okA || !okB {
		c.addAt(KindNotFullyCompared, c.base, c.bytesValue(ref, p), c.bytesValue(cand, p), detailLines)
		return
	}
	numbers := lineNumbers{seed: c.rules.seed, first: make(map[uint64]int, max(len(la), len(lb)))}
	pair := align(numbers.of(la), numbers.of(lb))
	ending := -1
	for i, j := 0, 0; (i < len(la) || j < len(lb)) && !c.full; {
		i0, j0 := i, j
		for i < len(la) && pair[i] < 0 {
			i++
		}
		if j = len(lb); i < len(la) {
			j = int(pair[i])
		}
		c.gap(la[i0:i], lb[j0:j], first+i0, first+j0)
		if i < len(la) {
			if la[i].ending != lb[j].ending && ending < 0 {
				ending = i
			}
			i, j = i+1, j+1
		}
	}
	if ending >= 0 {
		c.addAt(KindChanged, c.base, c.bytesValue(ref, p), c.bytesValue(cand, p), fmt.Sprintf(detailEndings, first+ending))
	}
}

// gap adds the differences of lines between two that are equal: one by one
// changed, and what is over added or removed.
func (c *comparison) gap(a, b []line, i, j int) {
	n := min(len(a), len(b))
	for k := 0; k < n && !c.full; k++ {
		x, y := &a[k], &b[k]
		if bytes.Equal(x.text, y.text) { // the alignment gave up before it came here
			continue
		}
		c.changedText(c.base.at(i+k), x.text, y.text)
	}
	for k := n; k < len(a) && !c.full; k++ {
		c.addAt(KindRemoved, c.base.at(i+k), c.textValue(a[k].text, 0), Value{}, "")
	}
	for k := n; k < len(b) && !c.full; k++ {
		c.addAt(KindAdded, c.base.at(j+k), Value{}, c.textValue(b[k].text, 0), "")
	}
}

// splitLines takes a text apart into lines, unless they are more than most.
func splitLines(text []byte, most int) ([]line, bool) {
	n := bytes.Count(text, []byte{'\n'}) + 1
	if n > most {
		return nil, false
	}
	all := make([]line, 0, n)
	for len(text) > 0 {
		one := line{text: text, ending: 0}
		i := bytes.IndexByte(text, '\n')
		if i < 0 {
			all = append(all, one)
			break
		}
		one.text, one.ending = text[:i], 1
		if i > 0 && text[i-1] == '\r' {
			one.text, one.ending = text[:i-1], 2
		}
		all = append(all, one)
		text = text[i+1:]
	}
	return all, true
}

// lineNumbers gives equal lines one number and others another.
type lineNumbers struct {
	seed  maphash.Seed
	first map[uint64]int // by a hash, or the next that is free, into lines
	lines [][]byte
}

func (n *lineNumbers) of(all []line) []uint64 {
	numbers := make([]uint64, len(all))
	for i := range all {
		text := all[i].text
		for h := maphash.Bytes(n.seed, text); ; h++ {
			k, ok := n.first[h]
			if !ok {
				k = len(n.lines)
				n.first[h] = k
				n.lines = append(n.lines, text)
			} else if !bytes.Equal(n.lines[k], text) {
				continue
			}
			numbers[i] = uint64(k)
			break
		}
	}
	return numbers
}
