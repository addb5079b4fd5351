package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// serve answers on a free loopback port, whose URL it prints, until ctx ends.
func serve(ctx context.Context, h http.Handler, out io.Writer) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if _, err := fmt.Fprintf(out, "http://%s\n", ln.Addr()); err != nil {
		return err
	}
	if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// child is this program in another role.
type child struct {
	cmd *exec.Cmd
	url string
}

func startChild(args ...string) (*child, error) {
	cmd := exec.Command("/proc/self/exe", args...) //nolint:gosec,noctx // this very program; close ends it
	cmd.Stderr = os.Stderr
	// It must not outlive the bench, however that ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		c.close()
		return nil, fmt.Errorf("a process of the bench did not start: %w", err)
	}
	c.url = strings.TrimSpace(line)
	return c, nil
}

func (c *child) close() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// cpuOf is the CPU time, user and system, that a process used so far.
func cpuOf(pid int) (time.Duration, error) {
	var ts unix.Timespec
	// clock_getcpuclockid(3): the complement of the pid, shifted by three, with CPUCLOCK_SCHED.
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil { //nolint:gosec // G115: pids are small
		return 0, fmt.Errorf("cpu clock of %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// memory reads a value in kB from a process's proc file and answers MB.
func memory(pid int, file, key string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("no %s in %s", key, file)
}

func loadAverage() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	v, _ := strconv.ParseFloat(first, 64)
	return v
}
