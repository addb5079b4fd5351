package faults

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/agentry/agentry/test/chaos/world"
)

// LastGood spoils what instances keep on their disk while they are down.
func LastGood() []world.Fault { return []world.Fault{spoil{}} }

// page is where files are cut: what a file system loses is whole pages.
const page = 4 << 10

// spoil ends an instance, spoils one or both generations of its last good config, and starts it: it passes over what is spoilt, says
// so, and is brought up to date by a control plane.
type spoil struct{}

// Name implements world.Fault.
func (spoil) Name() string { return "spoilt-last-good" }

// Needs implements world.Fault.
func (spoil) Needs(*world.World) error { return nil }

// way is how a file is spoilt.
type way struct {
	name string
	do   func(path string, r *rand.Rand) error
	// silent is set where the file is missing afterwards, of which the log says nothing.
	silent bool
}

func ways() []way {
	rewrite := func(change func([]byte, *rand.Rand) []byte) func(string, *rand.Rand) error {
		return func(path string, r *rand.Rand) error {
			b, err := os.ReadFile(path) //nolint:gosec // a file of an instance's state
			if err != nil {
				return err
			}
			return os.WriteFile(path, change(b, r), 0o600)
		}
	}
	return []way{
		{name: "cut at a page", do: rewrite(func(b []byte, r *rand.Rand) []byte {
			return b[:r.IntN((len(b)-1)/page+1)*page]
		})},
		{name: "one bit turned", do: rewrite(func(b []byte, r *rand.Rand) []byte {
			if len(b) > 0 {
				b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			}
			return b
		})},
		{name: "200 bits turned", do: rewrite(func(b []byte, r *rand.Rand) []byte {
			for range 200 {
				if len(b) > 0 {
					b[r.IntN(len(b))] ^= 1 << r.IntN(8)
				}
			}
			return b
		})},
		{name: "emptied", do: rewrite(func([]byte, *rand.Rand) []byte { return nil })},
		{name: "of an old schema", do: rewrite(func(b []byte, _ *rand.Rand) []byte {
			if len(b) > 12 {
				binary.BigEndian.PutUint32(b[8:], 0)
			}
			return b
		})},
		{name: "replaced by a symbolic link", do: func(path string, _ *rand.Rand) error {
			return errors.Join(os.Remove(path), os.Symlink("/etc/hostname", path))
		}},
		{name: "removed", silent: true, do: func(path string, _ *rand.Rand) error { return os.Remove(path) }},
	}
}

// Inject implements world.Fault.
func (spoil) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	how, both := ways()[r.IntN(len(ways()))], r.IntN(2) == 0
	n, err := anyAgentd().choose(ctx, w, r)
	if err != nil {
		return world.Injected{}, err
	}
	n.Kill()
	done, err := spoilFiles(n.Dir, how, both, r)
	if err != nil {
		return world.Injected{}, errors.Join(err, n.Up(ctx, upWait))
	}
	log := filepath.Join(w.Dir, n.Name+".log")
	before, err := size(log)
	if err != nil {
		return world.Injected{}, err
	}
	if err := n.Up(ctx, upWait); err != nil {
		return world.Injected{}, fmt.Errorf("last good of %s %s: %w", n.Name, how.name, err)
	}
	return world.Injected{
		What:    fmt.Sprintf("killed %s; %d of its last good files %s; started", n.Name, done, how.name),
		Excused: excuse(n), FallsBack: excuse(n),
		Fired: func() (int64, error) {
			if how.silent {
				return int64(done), nil
			}
			told, err := holds(log, before, "last good passed over")
			if err != nil || !told {
				return 0, errors.Join(err, fmt.Errorf("%s doesn't say that it passed over its last good", n.Name))
			}
			return int64(done), nil
		},
	}, nil
}

// spoilFiles spoils the newest generation, or both, and says how many.
func spoilFiles(dir string, how way, both bool, r *rand.Rand) (int, error) {
	newest, found := "", []string{}
	var sequence uint64
	for _, name := range []string{"lastgood.0", "lastgood.1"} {
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path) //nolint:gosec // a file of an instance's state
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		found = append(found, path)
		if len(b) >= 24 {
			if s := binary.BigEndian.Uint64(b[16:]); s >= sequence {
				newest, sequence = path, s
			}
		}
	}
	if !both && newest != "" {
		found = []string{newest}
	}
	for _, path := range found {
		if err := how.do(path, r); err != nil {
			return 0, err
		}
	}
	if len(found) == 0 {
		return 0, fmt.Errorf("%s holds no last good config", dir)
	}
	return len(found), nil
}

var _ world.Fault = spoil{}
