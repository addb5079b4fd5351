package command

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

func TestTableMeasuresAsATerminalDoes(t *testing.T) {
	t.Parallel()
	tab := table{head: []string{"NAME", "STATE", "MORE"}, from: 2}
	tab.add("a", "配置助手", "Synced", "x")
	tab.add("b", "b", "-", "y")
	var b strings.Builder
	if err := tab.write(&b); err != nil {
		t.Fatal(err)
	}
	want := "NAME       STATE\n配置助手   Synced\nb          -\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	tab.colour, tab.wide, tab.noHead = true, true, true
	b.Reset()
	if err := tab.write(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "\x1b[") || strings.Contains(b.String(), "NAME") || !strings.Contains(b.String(), "x") {
		t.Errorf("colours, no header, wide: %q", b.String())
	}
}

func TestOthersTextStaysInItsCell(t *testing.T) {
	t.Parallel()
	tab := table{head: []string{"SEQ", "MESSAGE"}}
	tab.add("1", "1", "clears\x1b[2J it\n2     forged\r\u202e 配置")
	var b strings.Builder
	if err := tab.write(&b); err != nil {
		t.Fatal(err)
	}
	want := "SEQ   MESSAGE\n1     clears\\x1b[2J it\\n2     forged\\r\\u202e 配置\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	if got := lines("two\n\tlines\x1b]0;x\a"); got != "two\n\tlines\\x1b]0;x\\a" {
		t.Errorf("%q", got)
	}
}

func TestAnAgentsTextDoesNotSteerTheTerminal(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a\x1b]52;c;ZXZpbA==\a\r\u009b2J\u202eb\x7f": `a\x1b]52;c;ZXZpbA==\a\r\u009b2J\u202eb\x7f`,
		"\x9b2J\x90a\xc2": "\ufffd2J\ufffda\ufffd",
		"two\n\tlines":    "two\n\tlines",
		"à 5\u00a0€ \u3000配置 \u0645\u06cc\u200c\u062e 👩\u200d🔬": "à 5\u00a0€ \u3000配置 \u0645\u06cc\u200c\u062e 👩\u200d🔬",
	} {
		if got := prose(in); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
	doc := map[string]string{"text": "a\u009b2J\u0085\x7f\x1b配置 \u00a0é"}
	b, err := encode(doc, "")
	var back map[string]string
	if err != nil || strings.ContainsFunc(strings.TrimSpace(string(b)), unicode.IsControl) || json.Unmarshal(b, &back) != nil || back["text"] != doc["text"] {
		t.Errorf("%v: JSON is %q, which says %q", err, b, back["text"])
	}
	for in, want := range map[string]string{"t-1.a_B:c": "t-1.a_B:c", "": "''", "x; rm -rf ~": "'x; rm -rf ~'", "it's": `'it'\''s'`} {
		if got := shellWord(in); got != want {
			t.Errorf("%q became %s", in, got)
		}
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for in, want := range map[time.Duration]string{
		-time.Second: "0s", 1500 * time.Millisecond: "1s", 100 * time.Second: "1m40s", 5*time.Minute + 3*time.Second: "5m",
		3*time.Hour + time.Minute: "3h", 50 * time.Hour: "2d",
	} {
		if got := short(in); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}

func TestLineDiff(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	for _, l := range lineDiff([]string{"a", "b", "c"}, []string{"a", "x", "c", "d"}) {
		got.WriteString(l.sign + l.text + "\n")
	}
	if diff := cmp.Diff(" a\n-b\n+x\n c\n+d\n", got.String()); diff != "" {
		t.Error(diff)
	}
}

func TestJSONPath(t *testing.T) {
	t.Parallel()
	doc := map[string]any{"items": []any{map[string]any{"name": "a", "n": 1.0}, map[string]any{"name": "b"}}, "x.y": true}
	for in, want := range map[string]string{
		"{.items[*].name}": "a b", "{.items[0].n}": "1", "{.items[9].n}": "", "name={.items[1].name}{\"\\n\"}": "name=b\n",
		"{$.items[0]}": `{"n":1,"name":"a"}`, "{['x.y']}": "true", "{.nope.deep}": "",
	} {
		p, err := parseJSONPath(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := p.eval(doc); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
	for _, bad := range []string{"{.a", "{a}", "{\"x}"} {
		if _, err := parseJSONPath(bad); exitCode(err) != exitUsage {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
