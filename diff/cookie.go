package diff

import "strings"

// cookie is one Set-Cookie line taken apart (RFC 6265 section 5.2).
type cookie struct {
	line, name, value string
	attributes        []attribute
}

type attribute struct{ name, value string }

// maxAttributes bounds the attributes that are looked at one by one; what
// follows is compared as one more.
const maxAttributes = 32

func parseCookie(line string) cookie {
	c := cookie{line: line}
	pair, rest, _ := strings.Cut(line, ";")
	name, value, ok := strings.Cut(pair, "=")
	if !ok {
		name, value = "", pair
	}
	c.name, c.value = trimOWS(name), trimOWS(value)
	for rest != "" {
		if len(c.attributes) == maxAttributes {
			c.set(attribute{"…", rest})
			break
		}
		var one string
		one, rest, _ = strings.Cut(rest, ";")
		name, value, _ := strings.Cut(one, "=")
		a := attribute{lower(trimOWS(name)), trimOWS(value)}
		switch a.name {
		case "":
			continue
		case "secure", "httponly", "partitioned":
			a.value = ""
		case "samesite":
			a.value = lower(a.value)
		case "domain":
			a.value = lower(strings.TrimPrefix(a.value, "."))
		}
		c.set(a)
	}
	return c
}

// set keeps the last of several attributes of one name, as readers do.
func (c *cookie) set(a attribute) {
	for i := range c.attributes {
		if c.attributes[i].name == a.name {
			c.attributes[i].value = a.value
			return
		}
	}
	c.attributes = append(c.attributes, a)
}

func (c *cookie) attribute(name string) (string, bool) {
	for _, a := range c.attributes {
		if a.name == name {
			return a.value, true
		}
	}
	return "", false
}

// cookies compares Set-Cookie lines by the cookies' names and attributes. Of
// several with one name the first is compared with the first, and so on.
func (c *comparison) cookies(field string, ref, cand lines) {
	a, b := parseCookies(ref), parseCookies(cand)
	unused := map[string][]int{} // the candidate's cookies by name, in order
	for i := range b {
		unused[b[i].name] = append(unused[b[i].name], i)
	}
	paired := make([]bool, len(b))
	for i := range a {
		x := &a[i]
		path := field + "/" + x.name
		left := unused[x.name]
		if len(left) == 0 {
			c.add(Difference{Kind: KindRemoved, Path: path, Reference: c.stringValue(x.line)})
			continue
		}
		y := &b[left[0]]
		paired[left[0]] = true
		unused[x.name] = left[1:]
		if x.value != y.value {
			c.add(Difference{Kind: KindChanged, Path: path, Reference: c.stringValue(x.value), Candidate: c.stringValue(y.value), Ignored: true})
		}
		c.attributes(path, x, y)
	}
	for i := range b {
		if !paired[i] {
			c.add(Difference{Kind: KindAdded, Path: field + "/" + b[i].name, Candidate: c.stringValue(b[i].line)})
		}
	}
}

func parseCookies(l lines) []cookie {
	all := make([]cookie, l.len())
	for k := range all {
		all[k] = parseCookie(l.value(k))
	}
	return all
}

func (c *comparison) attributes(path string, ref, cand *cookie) {
	for _, a := range ref.attributes {
		path := path + "/" + a.name
		v, ok := cand.attribute(a.name)
		switch {
		case !ok:
			c.add(Difference{Kind: KindRemoved, Path: path, Reference: c.stringValue(a.value)})
		case v != a.value:
			ignored := false
			switch a.name {
			case "expires":
				ignored = deletes(a.value) == deletes(v)
			case "domain":
				ignored = equalFold(v, host(c.in.CandidateAuthority)) && equalFold(a.value, host(c.in.ReferenceAuthority))
			}
			c.add(Difference{Kind: KindChanged, Path: path, Reference: c.stringValue(a.value), Candidate: c.stringValue(v), Ignored: ignored})
		}
	}
	for _, a := range cand.attributes {
		if _, ok := ref.attribute(a.name); !ok {
			c.add(Difference{Kind: KindAdded, Path: path + "/" + a.name, Candidate: c.stringValue(a.value)})
		}
	}
}

// deletes says whether a time of Expires is the one by which servers delete a
// cookie: the epoch, in one zone or another. There is no clock here to tell
// other times that have passed.
func deletes(expires string) bool {
	return strings.Contains(expires, "1970") || strings.Contains(expires, "1969")
}

// host is an authority without its port.
func host(authority string) string {
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		return authority[:i]
	}
	return authority
}
