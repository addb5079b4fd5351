package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/agentry/agentry/test/harness"
)

const deskFolder = "../../examples/support-desk"

// The tour of examples/support-desk/README.md is run as it stands there: every command, in order, by a shell, and every line of output is
// looked for. Only ports are others than a person's.
func TestSupportDeskTour(t *testing.T) {
	base := freePorts(t, 4)
	ports := strings.NewReplacer("127.0.0.1:7702", loopbackPort(base+2), "127.0.0.1:7703", loopbackPort(base+3),
		"127.0.0.1:7791", freeLoopback(t), "127.0.0.1:7792", freeLoopback(t))
	b, err := os.ReadFile(filepath.Join(deskFolder, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	steps, err := tour(string(b))
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) < 15 || !strings.Contains(steps[0].command, "agentctl up ") {
		t.Fatalf("%d steps, the first is %q", len(steps), steps[0].command)
	}
	steps[0].command += fmt.Sprintf(" --port-base %d", base)
	var script strings.Builder
	for i, s := range steps {
		script.WriteString(s.script(ports, i == 0))
	}
	script.WriteString("kill -INT up\nwait up\nstderr 'stopping'\n")
	file := filepath.Join(t.TempDir(), "tour.txt")
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	bin, err := filepath.Abs(binDir)
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Files: []string{file},
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("AGENTCTL_SERVER", fmt.Sprintf("http://127.0.0.1:%d", base))
			e.Setenv("NO_COLOR", "1")
			if err := os.Symlink(bin, filepath.Join(e.WorkDir, "bin")); err != nil {
				return err
			}
			return copyFolder(deskFolder, filepath.Join(e.WorkDir, "examples", "support-desk"), ports)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"ready": func(ts *testscript.TestScript, _ bool, addrs []string) {
			for _, addr := range addrs {
				err := harness.Poll(context.Background(), time.Minute, func(ctx context.Context) error {
					code, body, err := harness.Get(ctx, "http://"+addr+"/readyz")
					if err == nil && code != 200 {
						err = fmt.Errorf("%d: %s", code, body)
					}
					return err
				})
				ts.Check(err)
			}
		}},
	})
}

// step is one command of a tour, and the lines that it prints.
type step struct {
	command string
	output  []string
}

var consoleBlock = regexp.MustCompile("(?ms)^```console\n(.*?)^```$")

// tour reads the fenced console blocks of a page: "$ command", then its output. "..." stands for any text.
func tour(page string) ([]step, error) {
	var steps []step
	for _, block := range consoleBlock.FindAllStringSubmatch(page, -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSuffix(line, "\n")
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				steps = append(steps, step{command: command})
				continue
			}
			if len(steps) == 0 {
				return nil, fmt.Errorf("output before the first command: %q", line)
			}
			last := &steps[len(steps)-1]
			last.output = append(last.output, line)
		}
	}
	return steps, nil
}

// script gives the step in testscript's language. The first one stays.
func (s step) script(ports *strings.Replacer, stays bool) string {
	quote := func(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
	command := ports.Replace(s.command)
	if stays {
		return "exec sh -c " + quote("exec "+command) + " &up&\nready " + ports.Replace("127.0.0.1:7702 127.0.0.1:7703") + "\n"
	}
	var out strings.Builder
	out.WriteString("exec sh -c " + quote("{ "+command+"; } 2>&1") + "\n") // what a terminal shows
	for _, line := range s.output {
		var parts []string
		for part := range strings.SplitSeq(ports.Replace(line), "...") {
			parts = append(parts, regexp.QuoteMeta(strings.TrimSpace(part)))
		}
		out.WriteString("stdout " + quote("(?m)^"+strings.Join(parts, ".*")+"$") + "\n")
	}
	return out.String()
}

// copyFolder copies a spec with other ports.
func copyFolder(from, to string, ports *strings.Replacer) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), []byte(ports.Replace(string(b))), 0o600)
	})
}

// freePorts gives the first of n ports in a row that were free just now.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	var lc net.ListenConfig
search:
	for range 100 {
		_, text, err := net.SplitHostPort(freeLoopback(t))
		if err != nil {
			t.Fatal(err)
		}
		first, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			ln, err := lc.Listen(t.Context(), "tcp", loopbackPort(first+i))
			if err != nil {
				continue search
			}
			_ = ln.Close()
		}
		return first
	}
	t.Fatalf("no %d free ports in a row", n)
	return 0
}

func freeLoopback(t *testing.T) string {
	t.Helper()
	addr, err := harness.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func loopbackPort(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
