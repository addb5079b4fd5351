package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness"
)

// Disks are the faults of disks: full ones, and those that lose what they were asked to keep.
func Disks() []world.Fault {
	return []world.Fault{agentdFull{}, etcdFull{}, syncErrors{}}
}

// mounted is a node whose folder lies on a small disk of its own, a tmpfs.
type mounted struct {
	node   *world.Node
	filler string
}

// mount ends the node and moves its folder to a disk of a size, such as "2m". The node isn't started.
func mount(ctx context.Context, n *world.Node, size string) (*mounted, error) {
	if err := sweepDisks(ctx); err != nil {
		return nil, err
	}
	n.Kill()
	kept := n.Dir + ".kept"
	if err := os.Rename(n.Dir, kept); err != nil {
		return nil, err
	}
	m := &mounted{node: n, filler: filepath.Join(n.Dir, "filler")}
	err := os.Mkdir(n.Dir, 0o700)
	if err == nil {
		err = command(ctx, "mount", "-t", "tmpfs", "-o", "mode=0700,size="+size, device+strconv.Itoa(os.Getpid()), n.Dir)
	}
	if err == nil {
		err = command(ctx, "cp", "-a", kept+"/.", n.Dir)
	}
	if err != nil {
		_ = syscall.Unmount(n.Dir, syscall.MNT_DETACH)
		return nil, errors.Join(err, os.Remove(n.Dir), os.Rename(kept, n.Dir))
	}
	return m, os.RemoveAll(kept)
}

// device begins the names of these disks; the process id of their run follows.
const device = "agentry-chaos-"

// sweepDisks takes away those that runs left behind whose process is gone.
func sweepDisks(ctx context.Context) error {
	b, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return err
	}
	var faults []error
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		id, ours := strings.CutPrefix(fields[0], device)
		if pid, err := strconv.Atoi(id); ours && err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			faults = append(faults, command(ctx, "umount", "-l", fields[1]))
		}
	}
	return errors.Join(faults...)
}

// fill takes all the room that is left.
func (m *mounted) fill() error {
	f, err := os.OpenFile(m.filler, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	block := make([]byte, 64<<10)
	for len(block) > 0 {
		n, err := f.Write(block)
		if errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2] // to the last page
			if n > 0 {
				continue
			}
		}
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// free gives the room back.
func (m *mounted) free() error { return os.Remove(m.filler) }

// unmount ends the node and moves its folder back to where it was. The node isn't started.
func (m *mounted) unmount(ctx context.Context) error {
	n := m.node
	n.Kill()
	back := n.Dir + ".back"
	if err := command(ctx, "cp", "-a", n.Dir, back); err != nil {
		return err
	}
	if err := command(ctx, "umount", n.Dir); err != nil {
		return err
	}
	if err := os.Remove(n.Dir); err != nil {
		return err
	}
	return os.Rename(back, n.Dir)
}

// agentdFull fills the disk of an instance's state. It goes on, says that nothing is persisted, and is whole when there is room again.
type agentdFull struct{}

// Name implements world.Fault.
func (agentdFull) Name() string { return "disk-full-agentd" }

// Needs implements world.Fault.
func (agentdFull) Needs(*world.World) error { return needsRoot("mount", "umount", "cp") }

// Inject implements world.Fault.
func (agentdFull) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	hold, again := between(r, 5*time.Second, 8*time.Second), r.IntN(2) == 0
	n, err := anyAgentd().choose(ctx, w, r)
	if err != nil {
		return world.Injected{}, err
	}
	m, err := mount(ctx, n, "2m")
	if err != nil {
		return world.Injected{}, errors.Join(err, n.Up(ctx, upWait))
	}
	undo := func(err error) (world.Injected, error) {
		return world.Injected{}, errors.Join(err, m.unmount(ctx), n.Up(ctx, upWait))
	}
	if err := n.Up(ctx, upWait); err != nil {
		return undo(err)
	}
	if err := m.fill(); err != nil {
		return undo(err)
	}
	what := fmt.Sprintf("the disk of %s is full, for %s", n.Name, hold)
	if again {
		what += "; it dies and starts on it"
		n.Kill()
		if err := n.Up(ctx, upWait); err != nil {
			return undo(fmt.Errorf("on a full disk: %w", err))
		}
	}
	var fired int64
	return world.Injected{
		What: what, Hold: hold, Excused: excuse(n), FallsBack: excuse(n),
		Heal: func(ctx context.Context) error {
			told := waitFault(ctx, n, "not_persisted", passWait)
			if told == nil {
				fired = 1
			}
			if err := m.free(); err != nil {
				return err
			}
			if err := m.unmount(ctx); err != nil {
				return err
			}
			return n.Up(ctx, upWait)
		},
		Fired: func() (int64, error) { return fired, nil },
	}, nil
}

// waitFault waits until an instance shows a fault.
func waitFault(ctx context.Context, n *world.Node, code string, d time.Duration) error {
	return harness.Poll(ctx, d, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		status, body, err := harness.Get(ctx, n.URL()+"/admin/config")
		if err != nil {
			return err
		}
		if status != 200 || !strings.Contains(body, `"`+code+`"`) {
			return fmt.Errorf("%s doesn't show %s", n.Name, code)
		}
		return nil
	})
}

// catchUp is the room, in MiB, in which an etcd member that was down makes up for what grow wrote: log segments and the database that grew by it.
const catchUp = 600

// etcdFull fills the disk of an etcd member, which ends; the others go on. With room it takes part again.
type etcdFull struct{}

// Name implements world.Fault.
func (etcdFull) Name() string { return "disk-full-etcd" }

// Needs implements world.Fault.
func (etcdFull) Needs(w *world.World) error {
	if len(w.Etcds) < 3 {
		return errors.New("needs three etcd members")
	}
	return needsRoot("mount", "umount", "cp")
}

// Inject implements world.Fault.
func (etcdFull) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	hold := between(r, time.Second, 4*time.Second)
	n := pick(r, w.Etcds)
	n.Kill()
	used, err := folderSize(n.Dir)
	if err != nil {
		return world.Injected{}, errors.Join(err, n.Up(ctx, upWait))
	}
	m, err := mount(ctx, n, fmt.Sprintf("%dm", used>>20+catchUp))
	if err != nil {
		return world.Injected{}, errors.Join(err, n.Up(ctx, upWait))
	}
	undo := func(err error) (world.Injected, error) {
		return world.Injected{}, errors.Join(err, m.unmount(ctx), n.Up(ctx, upWait))
	}
	if err := n.Up(ctx, upWait); err != nil {
		return undo(err)
	}
	if err := m.fill(); err != nil {
		return undo(err)
	}
	what := fmt.Sprintf("the disk of %s is full, for %s", n.Name, hold)
	if err := grow(ctx, w, n); err != nil {
		what += ": " + err.Error()
	}
	var fired int64
	if !n.Running() {
		fired = 1
	}
	return world.Injected{
		What: what, Hold: hold,
		Heal: func(ctx context.Context) error {
			if err := m.free(); err != nil {
				return err
			}
			if !n.Running() {
				if err := n.Up(ctx, upWait); err != nil {
					return fmt.Errorf("with room again: %w", err)
				}
			}
			if err := m.unmount(ctx); err != nil {
				return err
			}
			return n.Up(ctx, upWait)
		},
		Fired: func() (int64, error) { return fired, nil },
	}, nil
}

// grow writes to etcd until a member, whose disk is full, ends. A write may fail: it can be the dying member that it was asked of.
func grow(ctx context.Context, w *world.World, n *world.Node) error {
	block := strings.Repeat("x", 1<<20)
	var failed error
	for range 120 {
		if !n.Running() {
			break
		}
		put, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := w.Etcd().Put(put, fillerKey, block)
		cancel()
		if err != nil {
			failed = fmt.Errorf("the last failed write: %w", err)
		}
	}
	err := waitEnd(ctx, n, passWait)
	if err != nil {
		err = errors.Join(err, failed)
	}
	return errors.Join(err, harness.Poll(ctx, passWait, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := w.Etcd().Delete(ctx, fillerKey)
		return err
	}))
}

func folderSize(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

// syncErrors lets every fsync of an instance fail, by strace. It must not say that a config is kept.
type syncErrors struct{}

// Name implements world.Fault.
func (syncErrors) Name() string { return "fsync-errors-agentd" }

// Needs implements world.Fault.
func (syncErrors) Needs(*world.World) error { return needsTools("strace") }

// Inject implements world.Fault.
func (syncErrors) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	hold := between(r, 5*time.Second, 8*time.Second)
	n, err := anyAgentd().choose(ctx, w, r)
	if err != nil {
		return world.Injected{}, err
	}
	trace := filepath.Join(w.Dir, fmt.Sprintf("%s-%d.strace", n.Name, n.Starts()))
	n.Kill()
	n.Override(world.Override{Prefix: []string{
		"strace", "-f", "-qq", "--seccomp-bpf", "-o", trace, "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO",
	}})
	back := func(ctx context.Context) error {
		n.Kill()
		n.Override(world.Override{})
		return n.Up(ctx, upWait)
	}
	if err := n.Up(ctx, upWait); err != nil {
		return world.Injected{}, errors.Join(err, back(ctx))
	}
	var told error
	return world.Injected{
		What: fmt.Sprintf("every fsync of %s fails, for %s", n.Name, hold), Hold: hold, Excused: excuse(n), FallsBack: excuse(n),
		Heal: func(ctx context.Context) error {
			told = waitFault(ctx, n, "not_persisted", passWait)
			return back(ctx)
		},
		Fired: func() (int64, error) {
			if told != nil {
				return 0, told
			}
			b, err := os.ReadFile(trace) //nolint:gosec // strace's output in the world's folder
			return int64(bytes.Count(b, []byte("(INJECTED)"))), err
		},
	}, nil
}

// command runs a tool.
func command(ctx context.Context, argv ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil { //nolint:gosec // tools that Needs looked for
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

var (
	_ world.Fault = agentdFull{}
	_ world.Fault = etcdFull{}
	_ world.Fault = syncErrors{}
)
