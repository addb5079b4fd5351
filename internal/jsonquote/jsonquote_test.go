package jsonquote_test

import (
	"encoding/json"
	"testing"

	"github.com/agentry/agentry/internal/jsonquote"
)

// FuzzAppend: what is written reads back as what encoding/json makes of the same string.
func FuzzAppend(f *testing.F) {
	for _, s := range []string{"", "plain", `a "quoted" \ one`, "lines\r\n\tand \x00\x1f\x7f", "配置 \u2028\u2029 \U0001f600", "not \xff\xc3 UTF-8 \xe9\x85", "<&>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := jsonquote.Append([]byte("head:"), s)
		var got, want string
		if err := json.Unmarshal(out[len("head:"):], &got); err != nil {
			t.Fatalf("%q becomes %s: %v", s, out, err)
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		if got != want || string(out[:5]) != "head:" {
			t.Errorf("%q reads back as %q, want %q", s, got, want)
		}
	})
}
