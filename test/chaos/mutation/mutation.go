// Package mutation shows that the fault suite's checks can fail: each mutation makes the programs do one thing wrong, by failpoints of
// the same build, and its scenario must find exactly that, in at most Limit. Without the mutation the same scenario finds nothing.
package mutation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/chaos/world"
)

// Limit is how long a scenario may take from the start of its processes to what it found.
const Limit = 20 * time.Second

// Mutation is one way to do wrong.
type Mutation struct {
	Name string
	// Wrong says what the programs do wrong.
	Wrong string
	// Property is the one that must be found violated.
	Property string

	planes  int            // how many control planes the scenario needs
	points  map[point]term // armed for the mutated run
	needs   func() error   // why it can't run here
	perform func(ctx context.Context, l *lab) error
}

// point is a failpoint of a kind of node.
type point struct {
	kind world.Kind
	name string
}

// term is what it does.
type term string

// on is a point that does wrong from the start.
const on term = "return"

// All gives the mutations, in order.
func All() []Mutation {
	return []Mutation{droppedPush(), reorderedVersions(), mixedSnapshot(), skippedSync(), unfencedLeader(), lostResume()}
}

// Config is what a run needs.
type Config struct {
	// Root is the module's root, Bin the binaries with failpoints (failpoint.Build), Base where the folders go.
	Root, Bin, Base string
	Logf            func(format string, args ...any)
}

// Verdict is how a mutation ended.
type Verdict struct {
	Red     bool
	Finding report.Finding // the first one
	Took    time.Duration
}

// ErrNeeds is wrapped where a scenario can't run here.
var ErrNeeds = errors.New("can't run here")

// Find gives a mutation by its name.
func Find(name string) (Mutation, error) {
	var names []string
	for _, m := range All() {
		if m.Name == name {
			return m, nil
		}
		names = append(names, m.Name)
	}
	return Mutation{}, fmt.Errorf("no mutation %q; there are: %s", name, strings.Join(names, ", "))
}

// Check runs the scenario sound, then mutated, and answers nil when the first was green and the second red for the right reason.
func (m Mutation) Check(ctx context.Context, c Config) error {
	sound, err := m.Run(ctx, c, false)
	if err != nil {
		return err
	}
	if sound.Red {
		return fmt.Errorf("%s: red without the mutation: %s: %s", m.Name, sound.Finding.Property, sound.Finding.Detail)
	}
	c.Logf("%s: green without the mutation (%.1f s)", m.Name, sound.Took.Seconds())
	mutated, err := m.Run(ctx, c, true)
	if err != nil {
		return err
	}
	switch {
	case !mutated.Red:
		return fmt.Errorf("%s: STAYED GREEN though %s", m.Name, m.Wrong)
	case mutated.Finding.Property != m.Property:
		return fmt.Errorf("%s: red for another reason than %s: %s: %s", m.Name, m.Property, mutated.Finding.Property, mutated.Finding.Detail)
	case mutated.Took > Limit:
		return fmt.Errorf("%s: red after %s, at most %s is allowed", m.Name, mutated.Took, Limit)
	}
	c.Logf("%s: red as it must be (%.1f s): %s: %s", m.Name, mutated.Took.Seconds(), mutated.Finding.Property, mutated.Finding.Detail)
	return nil
}

// Run performs the scenario once. An error means that it said nothing: the processes didn't start, or the mutation was never passed.
func (m Mutation) Run(ctx context.Context, c Config, mutated bool) (Verdict, error) {
	if m.needs != nil {
		if err := m.needs(); err != nil {
			return Verdict{}, fmt.Errorf("%s: %w: %w", m.Name, ErrNeeds, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*Limit)
	defer cancel()
	start := time.Now()
	l, err := m.open(ctx, c, mutated)
	if err != nil {
		return Verdict{}, fmt.Errorf("%s: %w", m.Name, err)
	}
	defer l.close()
	if err := m.perform(ctx, l); err != nil {
		return Verdict{}, fmt.Errorf("%s: %w (logs in %s)", m.Name, err, l.world.Dir)
	}
	v := Verdict{Took: time.Since(start)}
	if list, n := l.findings.All(); n > 0 {
		v.Red, v.Finding = true, list[0]
		if at := slices.IndexFunc(list, func(f report.Finding) bool { return f.Property == m.Property }); at > 0 {
			v.Finding = list[at]
		}
	}
	if mutated {
		if err := l.passed(ctx, m.points); err != nil {
			return v, fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return v, nil
}
