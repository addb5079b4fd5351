package harness

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// StartCluster starts n control planes whose embedded etcds keep one store together, each with a data directory of its own, and waits
// until all are ready. They share a key-encryption key and the bearer of the token file.
func (e *Env) StartCluster(ctx context.Context, n int, extra ...string) ([]*ControlPlane, error) {
	kek, token := make([]byte, 32), make([]byte, 24)
	_, _ = rand.Read(kek)
	_, _ = rand.Read(token)
	kekFile := filepath.Join(e.Dir, "kek")
	if err := os.WriteFile(kekFile, []byte(base64.StdEncoding.EncodeToString(kek)+"\n"), 0o600); err != nil {
		return nil, err
	}
	var members []string
	for i := range n {
		addr, err := FreeAddr()
		if err != nil {
			return nil, err
		}
		members = append(members, fmt.Sprintf("cp-%d=%s", i, addr))
	}
	out := make([]*ControlPlane, n)
	for i := range out {
		name, _, _ := strings.Cut(members[i], "=")
		cp := &ControlPlane{Name: name, DataDir: filepath.Join(e.Dir, name), env: e, ca: e.CA}
		cp.extra = append([]string{"--cluster", strings.Join(members, ","), "--cluster-name", name, "--kek-file", kekFile}, extra...)
		if e.CA != nil {
			cp.extra = append([]string{"--ca-cert", e.CACert, "--ca-key", e.CAKey}, cp.extra...)
		}
		if err := os.MkdirAll(cp.DataDir, 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(cp.TokenFile(), []byte(base64.RawURLEncoding.EncodeToString(token)+"\n"), 0o600); err != nil {
			return nil, err
		}
		for _, addr := range []*string{&cp.People, &cp.Runtime} {
			free, err := FreeAddr()
			if err != nil {
				return nil, err
			}
			*addr = free
		}
		out[i] = cp
	}
	faults := make([]error, n)
	var starting sync.WaitGroup
	for i, cp := range out {
		starting.Go(func() { faults[i] = cp.Restart(ctx) })
	}
	starting.Wait()
	for _, err := range faults {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
