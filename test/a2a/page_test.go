package a2a

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// page lists the requirements; its table lies between the marks.
const (
	page      = "../../docs/a2a-requirements.md"
	markBegin = "<!-- requirements: go test ./test/a2a -run TestPage -update -->"
	markEnd   = "<!-- end of requirements -->"
)

var update = flag.Bool("update", false, "write the table of docs/a2a-requirements.md")

// The page has a row for each requirement of the table and a requirement for each row, in the same words, and each cell names a test that there is
// or says why there is none.
func TestPage(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), markBegin+"\n")
	table, tail, closed := strings.Cut(rest, markEnd)
	if !ok || !closed {
		t.Fatal("the page has lost its marks")
	}
	if *update {
		var out strings.Builder
		out.WriteString(head + markBegin + "\n")
		writeTable(&out, requirements())
		out.WriteString(markEnd + tail)
		if err := os.WriteFile(page, []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	rows := map[string]string{}
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| ID |") {
			continue
		}
		id := strings.TrimSpace(strings.SplitN(line, "|", 3)[1])
		if _, twice := rows[id]; twice {
			t.Errorf("the page has %s twice", id)
		}
		rows[id] = strings.TrimSpace(line)
	}
	for _, r := range requirements() {
		have, ok := rows[r.id]
		switch want := r.row(); {
		case !ok:
			t.Errorf("%s has a test and no row on the page", r.id)
		case have != want:
			t.Errorf("the page says\n%s\nwant\n%s", have, want)
		}
		delete(rows, r.id)
	}
	for id := range rows {
		t.Errorf("the page's row %s has no test", id)
	}
}

// Every requirement is complete, and the MUSTs that have a test are at least as many as those of the protocol's own kit.
func TestTable(t *testing.T) {
	t.Parallel()
	const kit = 114
	seen, musts := map[string]bool{}, 0
	for _, r := range requirements() {
		if seen[r.id] {
			t.Errorf("%s comes twice", r.id)
		}
		seen[r.id] = true
		if r.level == must && (r.test != nil || r.once != nil || r.elsewhere != "") {
			musts++
		}
		if err := r.check(); err != nil {
			t.Errorf("%s: %v", r.id, err)
		}
	}
	if musts < kit {
		t.Errorf("%d MUSTs have a test, want %d or more", musts, kit)
	}
}

// check finds what is missing or wrong in a row.
func (r requirement) check() error {
	partly := r.test != nil && len(r.runsOn()) < len(bindings())
	switch {
	case !regexp.MustCompile(`^[A-Z]+(-[A-Z0-9]+)+$`).MatchString(r.id):
		return fmt.Errorf("no id: want one such as SEND-1")
	case !regexp.MustCompile(`^([0-9]+(\.[0-9]+)*|proto)$`).MatchString(r.section):
		return fmt.Errorf("section %q", r.section)
	case !slices.Contains([]level{must, should, may}, r.level):
		return fmt.Errorf("level %q", r.level)
	case r.what == "" || strings.ContainsAny(r.what+r.without+r.elsewhere, "|\n"):
		return fmt.Errorf("say in one line, without bars, what it wants")
	case r.test != nil && r.once != nil:
		return fmt.Errorf("a test for each binding, and one for none")
	case r.test == nil && r.once == nil && r.elsewhere == "" && r.without == "":
		return fmt.Errorf("neither a test nor a reason")
	case partly && r.without == "" && r.elsewhere == "":
		return fmt.Errorf("say why it is not tested on every binding")
	}
	return r.elsewhereIs()
}

// elsewhereIs looks for the tests that elsewhere names: "folder: TestA, TestB".
func (r requirement) elsewhereIs() error {
	if r.elsewhere == "" {
		return nil
	}
	folder, names, ok := strings.Cut(r.elsewhere, ": ")
	if !ok {
		return fmt.Errorf("elsewhere: want %q, not %q", "folder: TestName", r.elsewhere)
	}
	files, err := os.ReadDir("../../" + folder)
	if err != nil {
		return err
	}
	var all strings.Builder
	for _, f := range files {
		if strings.HasSuffix(f.Name(), "_test.go") {
			b, err := os.ReadFile("../../" + folder + "/" + f.Name())
			if err != nil {
				return err
			}
			all.Write(b)
		}
	}
	for name := range strings.SplitSeq(names, ", ") {
		if !strings.Contains(all.String(), "\nfunc "+name+"(t *testing.T)") {
			return fmt.Errorf("%s has no %s", folder, name)
		}
	}
	return nil
}

// row is the requirement's line of the page.
func (r requirement) row() string {
	cells := []string{r.id, r.section, string(r.level), r.what}
	for _, b := range bindings() {
		cells = append(cells, r.cell(b))
	}
	return "| " + strings.Join(cells, " | ") + " |"
}

func writeTable(out *strings.Builder, rows []requirement) {
	out.WriteString("| ID | section | level | what | JSON-RPC | HTTP+JSON | gRPC |\n|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		out.WriteString(r.row() + "\n")
	}
}
