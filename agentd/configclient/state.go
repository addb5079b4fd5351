package configclient

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// StateConfig is what OpenState needs.
type StateConfig struct {
	Dir       string
	Namespace string
	Agent     string
	// Instance is the id to use; empty: the one in the directory, created once.
	Instance string
	// KeyFile holds the key that seals credential values; empty: a key made in Dir, which protects copies of the other files only.
	KeyFile string
	Persist PersistSecrets
	// Forget drops last good and everything learnt from the cluster it came from.
	Forget bool
}

// State is an instance's state directory:
//
//	lock         held while an agentd uses the directory
//	instance     the instance id
//	key          the sealing key, when no key file was given (0600)
//	lastgood.0/1 two generations of the last config that was swapped in
//	memory       fence, refusals, boot attempts, Overlay, Endpoints
//	identity     the instance's certificate and its sealed key
//
// It may be used from many goroutines; saveGood and wipe from one at a time.
type State struct {
	dir       string
	namespace string
	agent     string
	instance  string
	persist   PersistSecrets
	lock      *os.File

	mu    sync.Mutex // guards kek, slots and mem
	kek   secret.KEK // nil: there is none yet
	slots [2]uint64  // sequence of each generation file; 0: none or unreadable
	mem   memoryBody

	saving sync.Mutex // orders writes of the memory file
	notes  []string   // what was found wrong at opening
}

// OpenState opens and locks a state directory and creates what is missing. A directory in use is errs.Precondition.
func OpenState(cfg StateConfig) (*State, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &State{dir: cfg.Dir, namespace: cfg.Namespace, agent: cfg.Agent, persist: cfg.Persist, lock: lock}
	if err := s.open(cfg); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

func (s *State) open(cfg StateConfig) (err error) {
	if s.kek, err = s.openKey(cfg.KeyFile); err != nil {
		return err
	}
	if s.instance, err = instanceID(cfg.Dir, cfg.Instance); err != nil {
		return err
	}
	if cfg.Forget {
		if err := s.wipe(); err != nil {
			return err
		}
		for _, path := range []string{s.memoryPath(), s.identityPath()} {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("forget cluster: %w", err)
			}
		}
	}
	s.loadMemory()
	for i, g := range s.generations() {
		if g.err != nil && !errors.Is(g.err, errNoSecrets) {
			continue // its slot is written first
		}
		s.slots[g.slot] = g.sequence
		if i == 0 || s.mem.Fence.ClusterID == g.cluster {
			s.mem.Fence = raised(s.mem.Fence, g.cluster, g.update.Token)
		}
	}
	return nil
}

// Close lets the directory go.
func (s *State) Close() error { return s.lock.Close() }

// Instance gives the instance id.
func (s *State) Instance() string { return s.instance }

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the state directory, from the settings
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errs.New(errs.Precondition, "state directory %s is in use by another agentd; give this one its own with --state-dir", dir)
		}
		return nil, fmt.Errorf("lock state directory %s: %w", dir, err)
	}
	return f, nil
}

// openKey opens the given key file, else the one of the directory, which it makes at the first start and anew where a damaged one
// lies: what that one sealed is passed over then, and comes again from the control plane.
func (s *State) openKey(file string) (secret.KEK, error) {
	if file != "" {
		k, err := secret.OpenFileKEK(file)
		if err != nil {
			return nil, fmt.Errorf("state key: %w", err)
		}
		return k, nil
	}
	own := s.keyPath()
	k, err := secret.OpenFileKEK(own)
	if errs.Is(err, errs.Invalid) {
		s.notes = append(s.notes, "state key: "+err.Error()+"; it is kept as key.damaged")
		if err := os.Rename(own, own+".damaged"); err != nil {
			return nil, fmt.Errorf("state key: %w", err)
		}
		return s.makeKey(own)
	}
	if errs.Is(err, errs.NotFound) {
		return s.makeKey(own)
	}
	if err != nil {
		return nil, fmt.Errorf("state key: %w", err)
	}
	return k, nil
}

// makeKey makes the directory's key. A directory that can't be written gives none, and costs last good, not the start: saveGood
// tries again.
func (s *State) makeKey(own string) (secret.KEK, error) {
	k, err := secret.CreateFileKEK(own)
	if err != nil {
		s.notes = append(s.notes, "state key: "+err.Error())
		return nil, nil //nolint:nilnil,nilerr // no key is a state of its own, which saveGood and unseal tell
	}
	return k, nil
}

func (s *State) keyPath() string { return filepath.Join(s.dir, "key") }

// printable reports whether an id can have been written here: it goes into logs, statuses and metrics.
func printable(id string) bool {
	return id != "" && strings.IndexFunc(id, func(r rune) bool { return r <= ' ' || r >= 0x7f }) < 0
}

// instanceID gives the id that was asked for, else the directory's, made at the first start.
func instanceID(dir, asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	path := filepath.Join(dir, "instance")
	raw, err := os.ReadFile(path) //nolint:gosec // a file of the state directory
	if id := strings.TrimSpace(string(raw)); err == nil && printable(id) {
		return id, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("instance id: %w", err)
	}
	var random [4]byte
	_, _ = rand.Read(random[:])
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "agentd"
	}
	id := host + "-" + hex.EncodeToString(random[:])
	// A directory that can't be written costs the id its permanence, not the start.
	if err := writeFile(path, []byte(id+"\n")); err != nil {
		return id, nil //nolint:nilerr // semantics.md 4: else host + random
	}
	return id, nil
}
