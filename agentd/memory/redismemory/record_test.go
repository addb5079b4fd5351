package redismemory

import (
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/memory"
)

// What somebody else wrote into the server is an error at most; what we wrote comes back.
func FuzzRecord(f *testing.F) {
	f.Add("r1\n1\n[]", "text", "tool")
	f.Add("r1\n2\n[{\"role\":\"user\",\"text\":\"q\"}]", "\x00\xff", "\n")
	f.Add("", "", "")
	f.Add("a\nb\n{", "é", "[")
	f.Fuzz(func(t *testing.T, line, text, tool string) {
		_, _ = decode(line)
		in := []memory.Turn{{Role: "user", Text: text}, {Role: "assistant", Tools: []memory.ToolUse{{Name: tool, Result: text}}}}
		encoded, err := encode("id", in)
		if err != nil {
			t.Fatal(err)
		}
		out, err := decode(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if utf8.ValidString(text) && utf8.ValidString(tool) { // what isn't text comes back as replacement characters
			if diff := cmp.Diff(in, out); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
	})
}
