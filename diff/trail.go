package diff

import "strconv"

// trail is a place in a body that is no JSON: what leads to it from the root.
// It is written as JSON's places are, and the rules for paths hold for it.
type trail []trailStep

// trailStep is a step down to a name, or to an index when index is not -1.
type trailStep struct {
	name  string
	index int
}

// below gives the trail with one more step to a name. It shares memory with t
// until the next step is taken from t.
func (t trail) below(name string) trail { return append(t, trailStep{name, -1}) }

// at gives the trail with one more step to an index, sharing memory as below.
func (t trail) at(index int) trail { return append(t, trailStep{index: index}) }

// path writes the trail in the form of Difference.Path.
func (t trail) path() string {
	b := []byte{'$'}
	for _, s := range t {
		if s.index >= 0 {
			b = append(strconv.AppendInt(append(b, '['), int64(s.index), 10), ']')
		} else {
			b = appendName(b, []byte(s.name))
		}
		if len(b) > maxPath {
			b = append(cutText(b, maxPath), cutMark...)
			break
		}
	}
	return string(b)
}

// rootPath is the path of the whole that is being compared: "" for a body, and
// the path of its content for a part of one.
func (c *comparison) rootPath() string {
	if len(c.base) == 0 {
		return ""
	}
	return c.base.path()
}

// addAt adds a difference at a place, or notes which rule ignores it.
func (c *comparison) addAt(kind string, at trail, ref, cand Value, detail string) {
	c.addBy(kind, at, ref, cand, detail, c.ignoredAt(at))
}

func (c *comparison) addBy(kind string, at trail, ref, cand Value, detail, rule string) {
	if c.room(rule != "") {
		c.add(Difference{Kind: kind, Path: at.path(), Reference: ref, Candidate: cand, Detail: detail, Ignored: rule != "", Rule: rule})
	}
}

// changedText adds the difference of two texts at a place; rules of equality
// hold for it as for JSON's strings.
func (c *comparison) changedText(at trail, ref, cand []byte) {
	rule := c.ignoredAt(at)
	if rule == "" {
		var equal []int32
		for _, n := range c.places.top() {
			equal = append(equal, c.places.m.nodes[n].equal...)
		}
		rule = c.rules.textRule(equal, ref, cand, ValueString)
	}
	k := firstDifference(ref, cand)
	c.addBy(KindChanged, at, c.textValue(ref, k), c.textValue(cand, k), "", rule)
}

// ignoredAt gives the name of the rule that ignores a place or one above it, ""
// without. Then c.places stands at the place.
func (c *comparison) ignoredAt(at trail) string {
	s := &c.places
	s.reset(&c.rules.json, nil, nil)
	for i := 0; ; i++ {
		if k := s.ignore(); k >= 0 {
			return c.rules.places[k]
		}
		if i == len(at) {
			return ""
		}
		s.step(at[i])
	}
}

// step steps down as a trail does.
func (s *states) step(to trailStep) {
	if to.index >= 0 {
		s.element(to.index, none, none)
	} else {
		s.name([]byte(to.name), none, none)
	}
}

// textValue is a text, or the piece of it around the byte at.
func (c *comparison) textValue(text []byte, at int) Value {
	v := c.bytesValue(text, at)
	v.Kind = ValueString
	return v
}
