package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/agentry/agentry/test/chaos/failpoint"
	"github.com/agentry/agentry/test/chaos/mutation"
)

// build makes the programs with their failpoints on, etcd's own too, unless it was told which to take.
func (o *options) build(ctx context.Context) error {
	if o.world.Bin != "" {
		return nil
	}
	began := time.Now()
	dir := o.builds
	if dir == "" {
		dir = filepath.Join(o.world.Root, ".tmp", "chaos")
	}
	bin, err := failpoint.Build(ctx, o.world.Root, dir, nil)
	if err != nil {
		return fmt.Errorf("build with failpoints: %w", err)
	}
	etcd, err := failpoint.BuildEtcd(ctx, o.world.Root, dir)
	if err != nil {
		return fmt.Errorf("build etcd with failpoints: %w", err)
	}
	o.world.Bin, o.world.Failpoints, o.world.Programs = bin, true, map[string]string{"etcdserver": etcd}
	o.logf("built the programs with failpoints in %s", time.Since(began).Round(time.Second))
	return nil
}

// mutations shows that the checks can fail: every mutation turns its scenario red, which is green without it.
func (o options) mutations(ctx context.Context) error {
	var failed []error
	for _, m := range mutation.All() {
		if o.only != "" && !contains(o.only, m.Name) {
			continue
		}
		err := m.Check(ctx, mutation.Config{Root: o.world.Root, Bin: o.world.Bin, Base: o.world.Base, Logf: o.logf})
		if err != nil {
			o.logf("mutation %s: %v", m.Name, err)
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}
