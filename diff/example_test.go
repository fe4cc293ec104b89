package diff_test

import (
	"errors"
	"fmt"

	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// jsonAnswer makes an answer with a JSON body.
func jsonAnswer(body string) *exchange.Response {
	return &exchange.Response{
		Status: 200,
		Header: exchange.Header{{Name: "Content-Type", Value: "application/json"}},
		Body:   exchange.Body{Bytes: []byte(body), Size: int64(len(body))},
	}
}

var getItem = &exchange.Request{Method: "GET", Target: "/items/7", Host: "shop.example"}

func Example() {
	rules, err := diff.Compile(diff.RuleConfig{IgnoreJSON: []string{"$.meta.took"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	reference := jsonAnswer(`{"id":7,"price":12.50,"tags":["a","b"],"meta":{"took":3}}`)
	candidate := jsonAnswer(`{"meta":{"took":9},"id":"7","price":12.5,"tags":["b","a"]}`)
	result := rules.Compare(getItem, reference, candidate, diff.Input{})
	fmt.Println(result.Outcome)
	for _, d := range result.Differences {
		fmt.Printf("%s %s %s: %s, %s (ignored by %q)\n", d.Aspect, d.Kind, d.Path, d.Reference.Text, d.Candidate.Text, d.Rule)
	}
	// Output:
	// divergent
	// body type_changed $.id: 7, 7 (ignored by "")
	// body reordered $.tags: ["a","b"], ["b","a"] (ignored by "")
	// body changed $.meta.took: 3, 9 (ignored by "ignore.json[0]")
}

func ExampleEqualRule() {
	rules, err := diff.Compile(diff.RuleConfig{
		Equal: []diff.EqualRule{
			{JSON: "$..id", Type: diff.TypeUUID},
			{JSON: "$.price", Tolerance: "1%"},
			{Header: "Location", Type: diff.TypeURL},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	reference := jsonAnswer(`{"id":"9b2c2f1e-3c1e-4f0e-9a59-0a6b5f0b8f10","price":100,"name":"x"}`)
	candidate := jsonAnswer(`{"id":"0f64e4a2-52f6-4b5c-8f9d-6c1f3f9b1a55","price":100.9,"name":"x"}`)
	result := rules.Compare(getItem, reference, candidate, diff.Input{})
	fmt.Println(result.Outcome)
	for _, d := range result.Differences {
		fmt.Println(d.Path, d.Rule)
	}
	// Output:
	// ignored
	// $.id equal[0]
	// $.price equal[1]
}

func ExampleArrayRule() {
	rules, err := diff.Compile(diff.RuleConfig{
		Arrays: []diff.ArrayRule{
			{JSON: "$.tags", As: diff.ArraysAsSet},
			{JSON: "$.lines", Key: "sku"},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	reference := jsonAnswer(`{"tags":["a","b"],"lines":[{"sku":"x","n":1},{"sku":"y","n":2}]}`)
	candidate := jsonAnswer(`{"tags":["b","a"],"lines":[{"sku":"y","n":3},{"sku":"x","n":1}]}`)
	for _, d := range rules.Compare(getItem, reference, candidate, diff.Input{}).Differences {
		fmt.Println(d.Kind, d.Path, d.Reference.Text, d.Candidate.Text)
	}
	// Output:
	// changed $.lines[1].n 2 3
}

func ExampleCompile() {
	_, err := diff.Compile(diff.RuleConfig{IgnoreJSON: []string{"$.items[?@.type = 'ad']"}})
	var rule *diff.RuleError
	if errors.As(err, &rule) {
		fmt.Println(rule.Path, rule.Offset, rule.Reason)
	}
	// Output:
	// ignore.json[0] 16 want , or ] here
}

func ExampleFingerprint() {
	rules, err := diff.Compile(diff.RuleConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	// Another index, another key and other values: one cause.
	for _, body := range []string{`{"byDay":{"2026-11-24":[1,%d]}}`, `{"byDay":{"2026-11-25":[3,4,%d,5]}}`} {
		result := rules.Compare(getItem, jsonAnswer(fmt.Sprintf(body, 100)), jsonAnswer(fmt.Sprintf(body, 200)), diff.Input{})
		d := &result.Differences[0]
		fmt.Println(d.Path, diff.GeneralisePath(d.Path), diff.Fingerprint("shop", "/items/{id}", d))
	}
	// Output:
	// $.byDay['2026-11-24'][1] $.byDay.*[*] a8642d5c7a52e052
	// $.byDay['2026-11-25'][2] $.byDay.*[*] a8642d5c7a52e052
}
