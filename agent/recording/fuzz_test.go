package recording_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/agent/recording"
)

// Whatever the lines are, reading ends, and what it gives can be written and
// read again as it is.
func FuzzLines(f *testing.F) {
	f.Add([]byte(sound + "\n" + `{"tick":7}` + "\n" + `{"lost":{"time":3,"choices":[{"selection":"paused","reason":"guard","route":2}],"result":"gap","count":4}}` + "\n" + `{"end":{"events":3}}` + "\n"))
	f.Add([]byte(`{"exchange":{"time":1,"choices":[{"selection":"selected","route":0}],"whole":` + whole + `,"replays":[{"experiment":0,"result":"compared","error":"timeout","detail":{"base64":"/w=="}}]}}` + "\n"))
	f.Add([]byte(`{"exchange":{"time":-1,"choices":null}}` + "\n" + `{"end":{"events":1}}`))
	f.Add([]byte(pairs + "\n" + strings.Replace(pairs, `"result":"paired","outcome":`+leg, `"result":"shed","reason":"stopped","outcome":{"result":"stopped","error":"closed"}`, 1) + "\n"))
	f.Add([]byte(strings.Replace(pairs, `"again":{"result":"compared","candidate":`+leg+`,"control":`+leg, `"again":{"result":"stopped"`, 1) + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := recording.NewReader("fuzzed", []byte(goodHead), bytes.NewReader(pack(string(text))))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		r.MaxLine = 1 << 20
		events, err := read(r)
		if err == nil {
			t.Fatal("no end")
		}
		var out bytes.Buffer
		w, err := recording.NewWriter(&out, recording.Config{MaxBody: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if err := w.Write(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(nil); err != nil {
			t.Fatal(err)
		}
		again, err := recording.NewReader("again", []byte(goodHead), &out)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		got, err := read(again)
		if err != io.EOF || len(got) != len(events) {
			t.Fatalf("%d events of %d, %v", len(got), len(events), err)
		}
		for i := range got {
			if !reflect.DeepEqual(got[i], events[i]) {
				t.Fatalf("event %d\n got %+v\nwant %+v", i, got[i], events[i])
			}
		}
	})
}

// Whatever the files hold, reading ends with an error, that of the end included.
func FuzzFiles(f *testing.F) {
	f.Add([]byte(goodHead), pack(sound+"\n"+`{"end":{"events":1}}`+"\n"))
	f.Add([]byte(`{"format":"shadowtap.recording.v1","config":"version: 1"}`), pack(pairs+"\n"))
	f.Add([]byte(`[]`), []byte("x"))
	f.Fuzz(func(t *testing.T, head, events []byte) {
		r, err := recording.NewReader("fuzzed", head, bytes.NewReader(events))
		if err != nil {
			return
		}
		defer r.Close()
		r.MaxLine = 1 << 20
		if _, err := read(r); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	})
}
