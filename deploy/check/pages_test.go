package check

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages are what people copy commands from.
func pages(t *testing.T) []string {
	t.Helper()
	out := []string{"README.md", "docs/operations.md", "docs/reliability.md", "docs/sizing.md", "docs/security.md"}
	howto, err := filepath.Glob("../../docs/howto/*.md")
	if err != nil || len(howto) == 0 {
		t.Fatal(err)
	}
	for _, p := range howto {
		out = append(out, "docs/howto/"+filepath.Base(p))
	}
	return out
}

var (
	inline  = regexp.MustCompile("`([^`\n]+)`")
	comment = regexp.MustCompile(`\s+#.*$`)
	flagged = regexp.MustCompile(`(?:^|\s)(--?[a-z][a-z0-9-]*)`)
)

// commandsIn gives every command line of ours in a page: in its code blocks, and between backticks.
func commandsIn(page string) []string {
	var out []string
	block, pending := false, ""
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "```") {
			block, pending = !block, ""
			continue
		}
		if !block {
			for _, m := range inline.FindAllStringSubmatch(line, -1) {
				out = append(out, m[1])
			}
			continue
		}
		line = pending + comment.ReplaceAllString(line, "")
		if rest, more := strings.CutSuffix(line, `\`); more {
			pending = rest
			continue
		}
		pending = ""
		out = append(out, strings.Split(line, "|")...)
	}
	return out
}

// ours cuts a command line down to the program and its words: assignments before it, redirections and quotes away.
func ours(line string) []string {
	line, _, _ = strings.Cut(line, " < ")
	line, _, _ = strings.Cut(line, " > ")
	words := strings.Fields(line)
	for len(words) > 0 && strings.Contains(words[0], "=") {
		words = words[1:]
	}
	if len(words) < 2 {
		return nil
	}
	words[0] = strings.TrimPrefix(words[0], "bin/")
	if !slices.Contains([]string{"agentctl", "agentd", "controlplane"}, words[0]) {
		return nil
	}
	return words
}

// TestCommandsOfThePagesExist asks the programs for help on every command and flag that the pages show.
func TestCommandsOfThePagesExist(t *testing.T) {
	t.Parallel()
	made := image(t)
	help := map[string]string{}
	ask := func(program string, words ...string) string {
		key := program + " " + strings.Join(words, " ")
		if _, known := help[key]; !known {
			out, err := exec.CommandContext(t.Context(), filepath.Join(made, "bin", program), append(words, "--help")...).CombinedOutput()
			if err != nil {
				out = nil
			}
			help[key] = string(out)
		}
		return help[key]
	}
	checked := 0
	for _, p := range pages(t) {
		for _, line := range commandsIn(read(t, p)) {
			words := ours(line)
			if words == nil {
				continue
			}
			text := ask(words[0])
			if words[0] == "agentctl" {
				var found bool
				if text, found = subcommand(ask, words[1:]); !found {
					t.Errorf("%s: %q: agentctl has no such command", p, line)
					continue
				}
			}
			checked++
			for _, m := range flagged.FindAllStringSubmatch(quoted.ReplaceAllString(strings.Join(words[1:], " "), ""), -1) {
				flag := m[1]
				if flag == "-o" || flag == "-n" || flag == "-A" || flag == "-q" || flag == "-f" || flag == "-m" {
					flag += "," // as in "-n, --namespace"
				}
				if words[0] != "agentctl" {
					flag = "-" + strings.TrimLeft(flag, "-") // the standard library's help
				}
				if !strings.Contains(text, flag+" ") && !strings.Contains(text, flag+"\n") && !strings.Contains(text, flag+"=") {
					t.Errorf("%s: %q: %s has no flag %s", p, line, words[0], m[1])
				}
			}
		}
	}
	if checked < 80 {
		t.Errorf("only %d commands were found in the pages", checked)
	}
}

var quoted = regexp.MustCompile(`'[^']*'|"[^"]*"`)

// subcommand finds the longest command that words begin with, and gives its help.
func subcommand(ask func(string, ...string) string, words []string) (string, bool) {
	var path []string
	text := ask("agentctl")
	for _, w := range words {
		if strings.HasPrefix(w, "-") || !regexp.MustCompile(`(?m)^  `+regexp.QuoteMeta(w)+`\s+\S`).MatchString(text) {
			break
		}
		path = append(path, w)
		text = ask("agentctl", path...)
	}
	if len(path) == 1 && path[0] == "help" || len(words) > 0 && words[0] == "help" {
		return text, true
	}
	isGroup := strings.Contains(text, "\nCommands:")
	more := len(words) > len(path) && !strings.HasPrefix(words[len(path)], "-") && !strings.HasPrefix(words[len(path)], ".")
	return text, len(path) > 0 && (!isGroup || !more)
}

var testName = regexp.MustCompile(`\bTest[A-Z][A-Za-z0-9]+\b`)

// TestTestsOfThePagesExist looks for every test that a page calls as its witness.
func TestTestsOfThePagesExist(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	err := fs.WalkDir(os.DirFS("../.."), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != "." || d.Name() == "node_modules") {
			if d != nil && d.IsDir() && err == nil {
				return fs.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(filepath.Join("../..", path)) //nolint:gosec // G304: a file of the checkout
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			known[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"docs/reliability.md", "docs/security.md", "docs/operations.md"} {
		for _, name := range testName.FindAllString(read(t, p), -1) {
			if !known[name] {
				t.Errorf("%s calls %s as its witness, and there is no such test", p, name)
			}
		}
	}
}
