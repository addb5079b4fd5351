package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/test/chaos/failpoint"
	"github.com/agentry/agentry/test/chaos/mutation"
	"github.com/agentry/agentry/test/harness"
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

// skewed makes the programs whose clock can be wrong, with their failpoints too. Go's standard library is compiled anew for it, which
// takes minutes the first time.
func (o *options) skewed(ctx context.Context) error {
	if o.world.Bin != "" && !o.world.Failpoints {
		return nil // the binaries were given
	}
	if o.only != "" && !strings.Contains(o.only, "clock-") {
		return nil // nobody asks for them
	}
	began := time.Now()
	changes, err := harness.SkewedClock(ctx)
	if err != nil {
		return err
	}
	dir := o.builds
	if dir == "" {
		dir = filepath.Join(o.world.Root, ".tmp", "chaos")
	}
	if o.kit.Skewed, err = failpoint.Build(ctx, o.world.Root, filepath.Join(dir, "skewed"), changes); err != nil {
		return err
	}
	o.logf("built them with clocks that can be wrong in %s", time.Since(began).Round(time.Second))
	return nil
}

// mutations shows that the checks can fail: every mutation turns its scenario red, which is green without it.
func (o options) mutations(ctx context.Context) error {
	all := mutation.All()
	if o.only != "" {
		all = slices.DeleteFunc(all, func(m mutation.Mutation) bool { return !contains(o.only, m.Name) })
	}
	if o.draw > 0 && o.draw < len(all) {
		r := rand.New(rand.NewPCG(o.seed, 0xdead)) //nolint:gosec // seeded on purpose
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:o.draw]
	}
	if len(all) == 0 {
		return fmt.Errorf("--only: no mutation %q", o.only)
	}
	var failed []error
	for _, m := range all {
		err := m.Check(ctx, mutation.Config{Root: o.world.Root, Bin: o.world.Bin, Base: o.world.Base, Logf: o.logf})
		if err != nil {
			o.logf("mutation %s: %v", m.Name, err)
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}
