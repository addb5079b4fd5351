package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// service is what a supervisor runs, whether Compose or systemd: a command with its environment and its folders.
type service struct {
	name    string
	host    string   // by which others reach it; several services may share one
	command []string // as in the file
	env     map[string]string
	mounts  map[string]string // path in the service -> name of the folder behind it
	files   map[string]string // path in the service -> text of a file that is put there
	health  []string          // command that says that it is well; none: it is well when it ended with 0
	grace   time.Duration     // from the signal to end until it is killed
	memory  int64             // bytes that it may use
}

// world runs services as plain processes. Each host has an address of the loopback network of its own, so that ports are those of the
// file; each service sees its folders below a root of its own. With root, services run as the image's user.
type world struct {
	t     *testing.T
	dir   string
	net   string            // first three numbers of every address
	hosts map[string]string // name -> address
	names *regexp.Regexp    // a host's name before a port
	bin   map[string]string // program -> path

	mu    sync.Mutex // guards procs
	procs map[string]*proc
}

type proc struct {
	service service
	cmd     *exec.Cmd
	out     *bytes.Buffer
	ended   chan struct{}
}

const imageUser = 65532

func newWorld(t *testing.T, hosts []string) *world {
	t.Helper()
	made := image(t)
	dir, err := os.MkdirTemp("", "agentry-deploy-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the services run as another user
		t.Fatal(err)
	}
	w := &world{
		t: t, dir: dir, net: fmt.Sprintf("127.%d.%d.", 64+rand.IntN(128), 1+rand.IntN(250)), hosts: map[string]string{}, procs: map[string]*proc{},
		bin: map[string]string{"etcd": filepath.Join(made, "etcd", "etcd")},
	}
	for _, b := range []string{"controlplane", "agentd", "agentctl"} {
		w.bin[b] = filepath.Join(made, "bin", b)
	}
	quoted := make([]string, 0, len(hosts))
	for i, h := range hosts {
		w.hosts[h] = fmt.Sprintf("%s%d", w.net, 10+i)
		quoted = append(quoted, regexp.QuoteMeta(h))
	}
	w.names = regexp.MustCompile(`\b(` + strings.Join(quoted, "|") + `)(:[0-9])`)
	t.Cleanup(func() {
		w.stop(syscall.SIGKILL, w.all()...)
		if t.Failed() {
			w.mu.Lock()
			defer w.mu.Unlock()
			for name, p := range w.procs {
				text := p.out.String()
				t.Logf("== %s: %s", name, text[max(0, len(text)-3000):])
			}
		}
		_ = os.RemoveAll(dir)
	})
	return w
}

// root is the folder that a service sees as /.
func (w *world) root(name string) string { return filepath.Join(w.dir, "root", name) }

// volume is the folder behind a volume's name.
func (w *world) volume(name string) string { return filepath.Join(w.dir, "volumes", name) }

var absolute = regexp.MustCompile(`(^|=)(/[^,]+)`)

// seen rewrites a word of a command or an environment for a service: hosts are addresses, its own ones are its host's, paths are below its root.
func (w *world) seen(s service, text string) string {
	text = w.names.ReplaceAllStringFunc(text, func(m string) string {
		i := strings.LastIndexByte(m, ':')
		return w.hosts[m[:i]] + m[i:]
	})
	for _, own := range []string{"0.0.0.0:", "127.0.0.1:"} {
		text = strings.ReplaceAll(text, own, w.hosts[s.host]+":")
	}
	return absolute.ReplaceAllString(text, "${1}"+w.root(s.name)+"${2}")
}

// prepare makes the folders of a service.
func (w *world) prepare(s service) error {
	root := w.root(s.name)
	for target, volume := range s.mounts {
		at, behind := filepath.Join(root, target), w.volume(volume)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.MkdirAll(filepath.Dir(behind), 0o755), os.MkdirAll(behind, 0o700)); err != nil { //nolint:gosec // the services run as another user
			return err
		}
		if os.Getuid() == 0 {
			if err := os.Chown(behind, imageUser, imageUser); err != nil {
				return err
			}
		}
		if err := os.Symlink(behind, at); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	for target, text := range s.files {
		at := filepath.Join(root, target)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o644)); err != nil { //nolint:gosec // the services run as another user
			return err
		}
	}
	return os.MkdirAll(root, 0o755) //nolint:gosec // the services run as another user
}

// process makes a command of a service as a process of ours, in an environment that holds nothing of this one's.
func (w *world) process(ctx context.Context, s service, command []string) (*exec.Cmd, error) {
	path, ok := w.bin[filepath.Base(command[0])]
	if !ok {
		return nil, fmt.Errorf("%s: no image holds the program %q", s.name, command[0])
	}
	args := make([]string, 0, len(command))
	for _, a := range command[1:] {
		args = append(args, w.seen(s, a))
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = w.root(s.name)
	cmd.Env = []string{"PATH=" + w.root(s.name), "HOME=" + filepath.Join(w.root(s.name), "var/lib/agentry")}
	for name, value := range s.env {
		cmd.Env = append(cmd.Env, name+"="+w.seen(s, value))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: imageUser, Gid: imageUser}
	}
	return cmd, nil
}

// start starts a service; a second time on the same folders.
func (w *world) start(s service) {
	w.t.Helper()
	if err := w.prepare(s); err != nil {
		w.t.Fatal(err)
	}
	cmd, err := w.process(context.Background(), s, s.command) //nolint:usetesting // it ends in the cleanup, after the test's context
	if err != nil {
		w.t.Fatal(err)
	}
	p := &proc{service: s, cmd: cmd, out: &bytes.Buffer{}, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	w.mu.Lock()
	w.procs[s.name] = p
	w.mu.Unlock()
	if err := cmd.Start(); err != nil {
		w.t.Fatalf("%s: %v", s.name, err)
	}
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
}

// well waits until a service's health check is content, or until it ended with 0 where it has none.
func (w *world) well(name string) {
	w.t.Helper()
	p := w.proc(name)
	limit := time.Now().Add(60 * time.Second)
	var last string
	for time.Now().Before(limit) {
		select {
		case <-p.ended:
			if len(p.service.health) == 0 && p.cmd.ProcessState.Success() {
				return
			}
			w.t.Fatalf("%s ended: %v\n%s", name, p.cmd.ProcessState, p.out)
		case <-time.After(100 * time.Millisecond):
		}
		if len(p.service.health) == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
		cmd, err := w.process(ctx, p.service, p.service.health)
		if err != nil {
			w.t.Fatal(err)
		}
		out, err := cmd.CombinedOutput()
		cancel()
		if err == nil {
			return
		}
		last = string(out)
	}
	w.t.Fatalf("%s isn't well within a minute: %s", name, last)
}

func (w *world) proc(name string) *proc {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.procs[name]
}

// kill ends a service at once, as a lost host does.
func (w *world) kill(name string) {
	w.t.Helper()
	p := w.proc(name)
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.ended
}

// stop signals services and waits; what overstays its grace is killed and named.
func (w *world) stop(sig syscall.Signal, names ...string) (overstayed []string) {
	began := time.Now()
	for _, n := range names {
		if p := w.proc(n); p.cmd.Process != nil {
			_ = p.cmd.Process.Signal(sig)
		}
	}
	for _, n := range names {
		p := w.proc(n)
		if p.cmd.Process == nil {
			continue
		}
		select {
		case <-p.ended:
		case <-time.After(time.Until(began.Add(max(p.service.grace, 5*time.Second)))):
			overstayed = append(overstayed, n)
			_ = p.cmd.Process.Signal(syscall.SIGKILL)
			<-p.ended
		}
	}
	return overstayed
}

// all names what was started.
func (w *world) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]string, 0, len(w.procs))
	for n := range w.procs {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// rss gives the resident bytes of a service's process.
func (w *world) rss(name string) int64 {
	w.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", w.proc(name).cmd.Process.Pid))
	if err != nil {
		w.t.Fatal(err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		w.t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}
