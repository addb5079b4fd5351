package check

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// dockerfile parses deploy/Dockerfile with BuildKit's own parser, which knows each instruction's form.
func dockerfile(t *testing.T) []instructions.Stage {
	t.Helper()
	r, err := parser.Parse(strings.NewReader(read(t, "deploy/Dockerfile")))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range r.Warnings {
		t.Errorf("deploy/Dockerfile: %s", w.Short)
	}
	stages, _, err := instructions.Parse(r.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	return stages
}

func targets(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, s := range dockerfile(t) {
		out = append(out, s.Name)
	}
	return out
}

// TestDockerfile holds the image to what it promises: two images for use, of static binaries on nothing, for nobody in particular.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	stages := dockerfile(t)
	if last := stages[len(stages)-1].Name; last != "agentry" {
		t.Errorf("a build without a target makes %q", last)
	}
	made := map[string]bool{}
	for _, s := range stages {
		user := ""
		for _, c := range s.Commands {
			switch c := c.(type) {
			case *instructions.CopyCommand:
				if s.Name != "build" && c.From != "build" {
					t.Errorf("%s: COPY %v from %q: only what was built goes in", s.Name, c.SourcePaths, c.From)
				}
				if s.Name == "build" {
					continue
				}
				for _, p := range c.SourcePaths {
					if rest, ok := strings.CutPrefix(p, "/out/"); ok && rest != "data/" && !made[p] {
						t.Errorf("%s: COPY %s, which no RUN makes", s.Name, p)
					}
				}
			case *instructions.RunCommand:
				if s.Name != "build" {
					t.Errorf("%s: RUN in an image without a shell", s.Name)
				}
				for _, b := range []string{"controlplane", "agentd", "agentctl"} {
					if strings.Contains(c.CmdLine[0], "-o /out/bin/") && strings.Contains(c.CmdLine[0], "./"+b) {
						made["/out/bin/"+b] = true
					}
				}
				if strings.Contains(c.CmdLine[0], "-o /out/etcd/etcd ") {
					made["/out/etcd/etcd"] = true
				}
			case *instructions.AddCommand:
				t.Errorf("%s: ADD: COPY says what it does", s.Name)
			case *instructions.UserCommand:
				user = c.User
			}
		}
		if s.Name == "build" && !strings.HasPrefix(s.BaseName, "golang:") || s.Name != "build" && s.BaseName != "scratch" && s.BaseName != "base" {
			t.Errorf("%s is from %s", s.Name, s.BaseName)
		}
		if s.Name == "base" && user != "65532:65532" {
			t.Errorf("%s runs as %q", s.Name, user)
		}
	}
	mod := read(t, "go.mod")
	_, after, _ := strings.Cut(mod, "\ngo ")
	release, _, _ := strings.Cut(after, "\n")
	parts := strings.Split(release, ".")
	if want := "golang:" + strings.Join(parts[:2], "."); stages[0].BaseName != want {
		t.Errorf("built by %s, and go.mod asks for %s", stages[0].BaseName, want)
	}
}

// built is what the Dockerfile's build lines made, once for all tests.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "agentry-image-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the services run as another user
		return "", err
	}
	return dir, nil
})

// image runs the RUN lines of the build stage in this checkout and gives the folder that they made as /out: the very binaries that the
// image would hold.
func image(t *testing.T) string {
	t.Helper()
	building.Do(func() {
		dir, err := built()
		if err != nil {
			buildErr = err
			return
		}
		for _, c := range dockerfile(t)[0].Commands {
			run, ok := c.(*instructions.RunCommand)
			if !ok || slices.Contains([]string{"go mod download"}, run.CmdLine[0]) {
				continue // the checkout's modules are there
			}
			if buildErr = buildLine(t.Context(), strings.ReplaceAll(run.CmdLine[0], "/out/", dir+"/")); buildErr != nil {
				return
			}
		}
	})
	if buildErr != nil {
		t.Fatalf("the Dockerfile's build: %v", buildErr)
	}
	dir, _ := built()
	return dir
}

var (
	building sync.Once
	buildErr error
)

func buildLine(ctx context.Context, line string) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", line, err, out)
	}
	return nil
}

// TestMain removes what was built.
func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := built(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// TestImageIsStatic builds what the image holds: binaries that need no library.
func TestImageIsStatic(t *testing.T) {
	t.Parallel()
	dir := image(t)
	for _, b := range []string{"bin/controlplane", "bin/agentd", "bin/agentctl", "etcd/etcd"} {
		text, err := os.ReadFile(filepath.Join(dir, b))
		if err != nil {
			t.Error(err)
			continue
		}
		if strings.Contains(string(text), "/lib64/ld-linux") {
			t.Errorf("%s asks for a dynamic loader", b)
		}
	}
	for _, d := range []string{"data/var/lib/agentry", "data/certs/controlplane"} {
		if info, err := os.Stat(filepath.Join(dir, d)); err != nil || !info.IsDir() {
			t.Errorf("%s: %v: a volume mounted there would be root's", d, err)
		}
	}
}
