package configclient

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/secret"
)

// PersistSecrets says whether last good holds credential values.
type PersistSecrets string

// The ways to persist secrets. Without them an instance is not ready from last good.
const (
	PersistSealed PersistSecrets = "sealed"
	PersistNone   PersistSecrets = "none"
)

var (
	errStateKey  = errors.New("state key")
	errNoSecrets = errors.New("saved without credential values (persist-secrets none)")
)

// goodBody is the body of a last good file.
type goodBody struct {
	Namespace   string                `json:"namespace"`
	Agent       string                `json:"agent"`
	ClusterID   string                `json:"clusterId"`
	Token       manifest.Token        `json:"token"`
	Revision    int64                 `json:"revision"`
	Lines       []manifest.Line       `json:"lines"`
	Resources   map[string][]byte     `json:"resources"`
	Secrets     PersistSecrets        `json:"secrets"`
	Credentials map[string]sealedCred `json:"credentials,omitempty"`
}

type sealedCred struct {
	Version int64  `json:"version"`
	Sealed  []byte `json:"sealed,omitempty"`
}

// generation is one last good file: readable, or with the reason why it isn't.
type generation struct {
	slot     int
	sequence uint64
	cluster  string
	update   Update
	err      error // of the whole file, or of its secrets; then update holds at most lines and resources
}

func (s *State) slotPath(slot int) string {
	return filepath.Join(s.dir, fmt.Sprintf("lastgood.%d", slot))
}

// generations reads both last good files, newest first; missing ones are left out.
func (s *State) generations() []generation {
	var out []generation
	for slot := range 2 {
		raw, err := readBounded(s.slotPath(slot))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		var g generation
		if err != nil {
			g.err = err
		} else {
			g = s.decodeGood(raw)
		}
		g.slot = slot
		out = append(out, g)
	}
	slices.SortStableFunc(out, func(a, b generation) int {
		switch {
		case a.sequence > b.sequence:
			return -1
		case a.sequence < b.sequence:
			return 1
		default:
			return 0
		}
	})
	return out
}

// decodeGood reads one last good file. It believes nothing: the manifest hash and every resource's hash are computed again.
func (s *State) decodeGood(raw []byte) generation {
	var body goodBody
	h, err := decodeFrame(magicGood, raw, &body)
	if err != nil {
		return generation{err: err}
	}
	g := generation{sequence: h.Sequence, cluster: body.ClusterID}
	switch {
	case body.Namespace != s.namespace || body.Agent != s.agent:
		g.err = fmt.Errorf("%w: of agent %s/%s", errCorrupt, body.Namespace, body.Agent)
	case h.Epoch != body.Token.Epoch || h.Revision != body.Revision:
		g.err = fmt.Errorf("%w: header and body differ", errCorrupt)
	default:
		g.err = checkContent(body.Token.Hash, body.Lines, body.Resources)
	}
	if g.err != nil {
		return g
	}
	g.update = Update{
		Token: body.Token, Revision: body.Revision, Lines: body.Lines, Resources: body.Resources,
		Proven: map[string]bool{}, FromLastGood: true,
	}
	for _, l := range body.Lines {
		g.update.Proven[l.Resource()] = true
	}
	if body.Secrets != PersistSealed {
		g.err = errNoSecrets
		return g
	}
	g.update.Credentials, g.err = s.unseal(body)
	return g
}

func (s *State) unseal(body goodBody) (map[string]Credential, error) {
	creds := make(map[string]Credential, len(body.Credentials))
	kek := s.opening()
	if kek == nil && len(body.Credentials) > 0 {
		return nil, fmt.Errorf("%w: there is none", errStateKey)
	}
	for name, c := range body.Credentials {
		v, err := secret.Open(kek, s.place(name, c.Version), c.Sealed)
		if err != nil {
			return nil, fmt.Errorf("%w: credential %s: %w", errStateKey, name, err)
		}
		creds[name] = Credential{Version: c.Version, Value: v}
	}
	for _, l := range body.Lines {
		if _, ok := creds[l.Name]; l.Kind == manifest.KindCredential && !ok {
			return nil, fmt.Errorf("%w: credential %s has no value", errCorrupt, l.Name)
		}
	}
	return creds, nil
}

func (s *State) place(name string, version int64) secret.Place {
	return secret.Place{Kind: manifest.KindCredential, Namespace: s.namespace, Name: name, Version: version}
}

// saveGood writes u as the newest generation over the older or unreadable one.
func (s *State) saveGood(cluster string, u Update) error {
	body := goodBody{
		Namespace: s.namespace, Agent: s.agent, ClusterID: cluster, Token: u.Token, Revision: u.Revision,
		Lines: u.Lines, Resources: u.Resources, Secrets: s.persist, Credentials: map[string]sealedCred{},
	}
	if s.persist == PersistSealed && len(u.Credentials) > 0 {
		kek, err := s.sealing()
		if err != nil {
			return err
		}
		for name, c := range u.Credentials {
			sealed, err := secret.Seal(kek, s.place(name, c.Version), c.Value)
			if err != nil {
				return fmt.Errorf("seal credential %s: %w", name, err)
			}
			body.Credentials[name] = sealedCred{Version: c.Version, Sealed: sealed}
		}
	}
	slot, sequence := s.nextSlot()
	raw, err := encodeFrame(magicGood, header{Sequence: sequence, Epoch: u.Token.Epoch, Revision: u.Revision}, body)
	if err != nil {
		return err
	}
	if err := writeFile(s.slotPath(slot), raw); err != nil {
		return err
	}
	s.mu.Lock()
	s.slots[slot] = sequence
	s.mu.Unlock()
	return nil
}

// nextSlot gives the slot to write and its sequence.
func (s *State) nextSlot() (slot int, sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots[1] < s.slots[0] {
		slot = 1
	}
	sequence = max(s.slots[0], s.slots[1])
	for seq := range s.mem.Attempts {
		sequence = max(sequence, seq)
	}
	return slot, sequence + 1
}

// wipe removes both generations: the agent was deleted, or the cluster is to be forgotten.
func (s *State) wipe() error {
	var fault error
	for slot := range 2 {
		if err := os.Remove(s.slotPath(slot)); err != nil && !errors.Is(err, os.ErrNotExist) {
			fault = errors.Join(fault, fmt.Errorf("wipe last good: %w", err))
		}
	}
	s.mu.Lock()
	s.slots = [2]uint64{}
	s.mu.Unlock()
	return errors.Join(fault, syncDir(s.dir))
}

// checkContent verifies the manifest hash and that every line but credentials has bytes of its hash, and nothing else.
func checkContent(hash manifest.Hash, lines []manifest.Line, resources map[string][]byte) error {
	if !slices.IsSortedFunc(lines, compareLines) {
		return fmt.Errorf("%w: manifest lines are not in order", errCorrupt)
	}
	if got := manifest.Of(lines); got != hash {
		return fmt.Errorf("%w: the manifest's hash is %.8s, want %.8s", errCorrupt, got, hash)
	}
	seen := 0
	for _, l := range lines {
		if l.Kind == manifest.KindCredential {
			continue
		}
		b, ok := resources[l.Resource()]
		if !ok || manifest.Sum(b) != l.SHA256 {
			return fmt.Errorf("%w: %s does not match its hash", errCorrupt, l.Resource())
		}
		seen++
	}
	if seen != len(resources) {
		return fmt.Errorf("%w: %d resources for %d lines", errCorrupt, len(resources), seen)
	}
	return nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // a file of the state directory
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxBody+headerSize+1))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, errs.New(errs.Internal, "read %s: %w", filepath.Base(path), err)
	}
	return raw, nil
}
