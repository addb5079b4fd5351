// Package deps holds the import rules that a linter of direct imports can't see: what each binary and each pure package links,
// read from `go list -deps`.
package deps

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

const module = "github.com/agentry/agentry/"

// linked answers every package that pattern links, itself included.
func linked(t *testing.T, pattern string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", pattern)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -deps %s: %v", pattern, err)
	}
	return strings.Fields(string(out))
}

func TestNothingLinksWhatItMustNot(t *testing.T) {
	cases := map[string]struct {
		pattern string
		never   string // regular expression over import paths
	}{
		"agentd knows neither the control plane nor etcd nor the tools' parsers": {
			"./agentd", `^` + module + `(controlplane|agentctl|internal/specfile|internal/scriptmodel)|^go\.etcd\.io|^github\.com/goccy|^github\.com/spf13/cobra`,
		},
		"controlplane does not know agentd": {"./controlplane", `^` + module + `(agentd|agentctl)`},
		"failpoints are comments": {
			"./...", `^go\.etcd\.io/gofail/runtime`,
		},
		"agentctl is a client":           {"./agentctl", `^` + module + `(controlplane|agentd)|^go\.etcd\.io`},
		"internal knows no product half": {"./internal/...", `^` + module + `(controlplane|agentd|agentctl)`},
		"only the store's adapter speaks etcd": {
			"./controlplane/view", `^go\.etcd\.io`,
		},
		"the spec stands on the standard library and jcs": {"./internal/spec", `^(github\.com|google\.golang\.org|golang\.org|connectrpc\.com|gopkg\.in|go\.)`},
	}
	allowed := regexp.MustCompile(`^(` + module + `|github\.com/gowebpki/jcs)`)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			never := regexp.MustCompile(c.never)
			for _, p := range linked(t, c.pattern) {
				if c.pattern == "./internal/spec" && allowed.MatchString(p) {
					continue
				}
				if never.MatchString(p) {
					t.Errorf("%s links %s", c.pattern, p)
				}
			}
		})
	}
}

func TestPureCoresLinkNoIO(t *testing.T) {
	ours := map[string]bool{"internal/spec": true, "internal/phase": true, "internal/manifest": true}
	never := regexp.MustCompile(`^(net|net/http|os/exec|google\.golang\.org/.*|go\.etcd\.io/.*|github\.com/agentry/agentry/(gen|agentd|controlplane)/.*)$`)
	for _, core := range []string{"controlplane/snapshot", "controlplane/release", "agentd/engine"} {
		t.Run(core, func(t *testing.T) {
			for _, p := range linked(t, "./"+core) {
				local, isOurs := strings.CutPrefix(p, module)
				switch {
				case isOurs && local == core:
				case isOurs && !ours[local]:
					t.Errorf("%s links %s: a pure package stands on internal/spec, internal/phase and internal/manifest only", core, p)
				case !isOurs && never.MatchString(p):
					t.Errorf("%s links %s", core, p)
				}
			}
		})
	}
}

func TestEveryPackageIsCommented(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", "{{if .GoFiles}}{{.ImportPath}}\t{{.Doc}}{{end}}", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		path, doc, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if path != "" && doc == "" && !strings.Contains(path, "/gen/") {
			t.Errorf("%s has no package comment", path)
		}
	}
}
