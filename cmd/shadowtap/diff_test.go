package main

import (
	"os"
	"strings"
	"testing"
)

func TestDiffCommand(t *testing.T) {
	elsewhere(t)
	for name, data := range map[string]string{
		"a.http":     "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"a\":1,\"b\":[1,2]}",
		"b.http":     "HTTP/2 200\r\ncontent-type: application/json\r\n\r\n{\"b\":[1,2.0],\"a\":1}",
		"c.http":     "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"a\":1,\"b\":[2,1]}",
		"rules.yaml": "arrays: [{json: $.b, as: set}]\n",
		"order.yaml": "ignore: {json: [$.b]}\n",
		"worse.yaml": "arrays: [{json: $.b, as: bag}]\nignore: {aspects: [heder]}\n",
		"bad.yaml":   "arrays: [{json: $.b.., as: set}]\n",
	} {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args     string
		code     int
		out, err string
	}{
		{"a.http b.http", 0, "equal\n", ""},
		{"a.http c.http", 1, "body $.b: reordered\n  - [1,2]\n  + [2,1]\ndifferent: 1 difference\n", ""},
		{"a.http c.http --rules rules.yaml", 0, "equal\n", ""},
		{"a.http c.http --rules order.yaml", 0, "equal but for what is ignored: 1 difference\n", ""},
		{"a.http c.http --rules order.yaml --ignored", 0, "ignore.json[0]", ""},
		{"--json a.http c.http", 1, `"path": "$.b"`, ""},
		{"--rules bad.yaml a.http c.http", 2, "", `shadowtap: bad.yaml:1:22: arrays[0].json: "$.b.." at byte 6: want a name`},
		{"--rules worse.yaml a.http c.http", 2, "", "shadowtap: worse.yaml:1:26: arrays[0].as: \"bag\" at byte 1: is not known: write order or set, or key instead\nworse.yaml:2:20: ignore.aspects[0]"},
		{"a.http", 2, "", "shadowtap: two files are needed"},
		{"a.http nowhere.http", 2, "", "shadowtap: open nowhere.http: no such file"},
		{"a.http rules.yaml", 2, "", "shadowtap: rules.yaml: no HTTP answer"},
		{"--rule rules.yaml a.http b.http", 2, "", "--rules"},
	} {
		code, out, errs := call(t, append([]string{"diff"}, strings.Fields(tt.args)...)...)
		if code != tt.code || !strings.Contains(out, tt.out) || !strings.Contains(errs, tt.err) || (tt.err == "") != (errs == "") {
			t.Errorf("%s: exit code %d, want %d\n%s%s", tt.args, code, tt.code, out, errs)
		}
	}
}
