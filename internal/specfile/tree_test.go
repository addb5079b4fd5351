package specfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/specfile"
)

func TestReadTree(t *testing.T) {
	root := filepath.Join(t.TempDir(), "fleet")
	for _, name := range []string{
		"helper/agent-base.json", "helper/model.yaml", "helper/README.md", "helper/.hidden.json", ".git/config.json", "up.yaml", "model-script.yaml",
		"model-scripts/x.yaml", "prompts/team/a.json", "mcp/gaode.json", "run.sh", "node_modules/x/package.json",
	} {
		p := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cases := map[string]struct {
		root string
		want []string
	}{
		"folder of folders": {root, []string{"fleet/helper/agent-base.json", "fleet/helper/model.yaml", "fleet/mcp/gaode.json", "fleet/prompts/team/a.json"}},
		"one agent":         {filepath.Join(root, "helper"), []string{"helper/agent-base.json", "helper/model.yaml"}},
		"one prompt":        {filepath.Join(root, "prompts", "team", "a.json"), []string{"prompts/team/a.json"}},
		"one file":          {filepath.Join(root, "helper", "model.yaml"), []string{"helper/model.yaml"}},
		"standard input":    {"-", []string{"-"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := specfile.ReadTree(c.root, strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			var paths []string
			for _, f := range got {
				paths = append(paths, f.Path)
			}
			if diff := cmp.Diff(c.want, paths); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := specfile.ReadTree(filepath.Join(root, "missing"), nil); !errs.Is(err, errs.NotFound) {
		t.Errorf("a missing folder: %v", err)
	}
}
