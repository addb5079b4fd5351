package release

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agentry/agentry/internal/manifest"
)

// veto is semantics.md 7.3: each shared line of a refused config that differs from the base, and that the base also has, is
// held back; a pinned one never. It reports whether the head moved.
func (o *observer) veto(v verdict, base Config, first bool) bool {
	var made []Veto
	var what []string
	after := slices.Clone(v.config.Lines)
	for i, l := range v.config.Lines {
		if l.Kind == manifest.KindAgent || slices.Contains(base.Lines, l) || o.pinned(l) {
			continue
		}
		use, ok := lineOf(base.Lines, l)
		if !ok {
			continue
		}
		next, ok := o.s.vetoed(l, use)
		if !ok {
			continue
		}
		next.Since, next.Instance = o.e.At, v.instance
		made, after[i] = append(made, next), use
		what = append(what, fmt.Sprintf("%s %s held at %s", l.Resource(), short(l.Kind, VersionOf(l)), short(l.Kind, next.Use)))
	}
	if len(made) == 0 {
		return false
	}
	for _, n := range made {
		o.s.putVeto(n)
	}
	manifest.Sort(after)
	v.fallback = manifest.Of(after)
	switch l := o.s.LastRefusal; {
	case first || l == nil || l.Hash == v.config.Hash:
		o.note(v, ActionHeld, 0)
	case l.Fallback == v.config.Hash:
		// A candidate was refused, and now what was gone back to as well: instances end on what the veto leaves.
		l.Fallback = v.fallback
	}
	n := o.s.Desired()
	o.do(Moved{
		Move: MoveVeto, From: n, To: n, Config: manifest.ConfigName(v.config.Revision, v.config.Hash), Instance: v.instance,
		Faults: v.faults, Cause: v.cause + ": " + strings.Join(what, ", "), Vetoes: made,
	})
	o.moved = true
	return true
}

// pinned reports whether the pin decides a line.
func (o *observer) pinned(l manifest.Line) bool {
	if o.s.Pin == nil {
		return false
	}
	_, ok := lineOf(o.s.Pin.Lines, l)
	return ok
}

// lineOf finds the line of the same resource.
func lineOf(lines []manifest.Line, l manifest.Line) (manifest.Line, bool) {
	i := slices.IndexFunc(lines, func(m manifest.Line) bool { return m.Kind == l.Kind && m.Name == l.Name })
	if i < 0 {
		return manifest.Line{}, false
	}
	return lines[i], true
}

// vetoed gives the veto of a line with use in its place, together with what was refused before; false where use was refused, or
// nothing new is.
func (s State) vetoed(l, use manifest.Line) (Veto, bool) {
	version, v := VersionOf(l), Veto{Kind: l.Kind, Name: l.Name}
	if i := s.vetoOf(l.Kind, l.Name); i >= 0 {
		v = s.Vetoes[i]
	}
	with := VersionOf(use)
	if slices.Contains(v.Refused, with) || slices.Contains(v.Refused, version) && v.Use == with {
		return Veto{}, false
	}
	v.Use = with
	v.Refused = append(slices.DeleteFunc(slices.Clone(v.Refused), func(r string) bool { return r == version }), version)
	if n := len(v.Refused); n > maxRefused {
		v.Refused = v.Refused[n-maxRefused:]
	}
	return v, true
}

func (s State) vetoOf(kind, name string) int {
	return slices.IndexFunc(s.Vetoes, func(v Veto) bool { return v.Kind == kind && v.Name == name })
}

// putVeto takes a veto in or replaces the one of the same line. Vetoes are the step's own.
func (s *State) putVeto(v Veto) {
	if i := s.vetoOf(v.Kind, v.Name); i >= 0 {
		s.Vetoes[i] = v
		return
	}
	s.Vetoes = append(s.Vetoes, v)
	slices.SortFunc(s.Vetoes, func(a, b Veto) int { return strings.Compare(a.Resource(), b.Resource()) })
}

// settleVetoes removes the vetoes without which a release settled (semantics.md 7.3): given are the configs that Build gives for
// the settled revision and for what else is under way.
func (o *observer) settleVetoes(now ...*Config) {
	o.s.Vetoes = slices.DeleteFunc(o.s.Vetoes, func(v Veto) bool {
		return !slices.ContainsFunc(now, func(c *Config) bool { return c != nil && slices.Contains(c.Vetoed, v.Resource()) })
	})
}
