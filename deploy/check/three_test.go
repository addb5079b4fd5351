package check

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestThree runs the README's three control planes, loses one, and goes on writing and reading.
func TestThree(t *testing.T) {
	t.Parallel()
	made, dir := image(t), t.TempDir()
	script := exec.Command(filepath.Join("..", "three.sh"), dir, filepath.Join(made, "bin")) //nolint:gosec,noctx // G204: our own script; it ends by its signal, for its trap to run
	script.Env = append(os.Environ(), fmt.Sprintf("PORT_BASE=%d", 20000+300*rand.IntN(30)))
	script.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	out, err := script.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := script.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = script.Process.Signal(syscall.SIGTERM)
		ended := make(chan struct{})
		go func() { _ = script.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Error("three.sh did not end its control planes within 30 s of SIGTERM")
			_ = syscall.Kill(-script.Process.Pid, syscall.SIGKILL)
			<-ended
		}
		if t.Failed() {
			for _, n := range []string{"1", "2", "3"} {
				text, _ := os.ReadFile(filepath.Join(dir, n, "log")) //nolint:gosec // G304: of this test's folder
				t.Logf("== %s: %s", n, text[max(0, len(text)-2000):])
			}
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	env := strings.Fields(strings.TrimPrefix(line, "export "))
	home := t.TempDir()
	ctl := func(args ...string) error {
		cmd := exec.CommandContext(t.Context(), filepath.Join(made, "bin", "agentctl"), args...) //nolint:gosec // G204: our own program
		cmd.Env, cmd.Dir = append([]string{"HOME=" + home, "PATH=" + home}, env...), filepath.Join("..", "..")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("agentctl %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	eventually(t, 60*time.Second, func() error { return ctl("cluster", "status") })
	text, err := os.ReadFile(filepath.Join(dir, "1", "pid")) //nolint:gosec // G304: of this test's folder
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := ctl("apply", "-f", "deploy/agent"); err != nil {
		t.Error("with one of three lost: ", err)
	}
	if err := ctl("get", "agent", "greeter"); err != nil {
		t.Error("with one of three lost: ", err)
	}
}
