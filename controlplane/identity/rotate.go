package identity

import (
	"context"
	"slices"
	"time"

	"github.com/agentry/agentry/internal/errs"
)

// State is where a root is in a rotation.
type State string

// The states: the next is trusted and signs nothing yet, the active one signs, the former one is only still trusted.
const (
	Next   State = "next"
	Active State = "active"
	Former State = "former"
)

// Root is one root that is trusted.
type Root struct {
	Pin                 string
	State               State
	NotBefore, NotAfter time.Time
	DER                 []byte
}

// Roots gives the roots that are trusted, the active one first.
func (a *Authority) Roots() []Root {
	var out []Root
	for _, r := range a.trust.Load().roots {
		one := Root{Pin: r.pin, State: r.state, NotBefore: r.cert.NotBefore, NotAfter: r.cert.NotAfter, DER: r.cert.Raw}
		if r.state == Active {
			out = slices.Insert(out, 0, one)
			continue
		}
		out = append(out, one)
	}
	return out
}

// Issuer gives the serial number and the end of what signs now.
func (a *Authority) Issuer() (serial string, notAfter time.Time) {
	c := a.trust.Load().active().issuer.cert
	return serialOf(c), c.NotAfter
}

// Step is a step of a rotation of the root.
type Step string

// The steps, in order.
const (
	Prepare  Step = "prepare"
	Activate Step = "activate"
	Retire   Step = "retire"
)

// Rotate takes a step of a rotation; "" is the next one. Prepare makes the next root, which every certificate that is given from
// then on brings along. Activate lets it sign; without force it is errs.Precondition while a certificate is valid that came without
// it, or a join token can be spent that pins the former root. Retire ends the trust in the former root; without force it is
// errs.Precondition while a certificate of it is valid. about, if set, hears which step it will be before it is written.
func (a *Authority) Rotate(ctx context.Context, step Step, force bool, about func(Step)) (Step, error) {
	if a.cfg.Files != nil {
		return "", errs.New(errs.Precondition, "the certificate authority is in files: rotate it by new files (the new chain first, former roots after it) and a restart")
	}
	for range attempts {
		t, err := a.read(ctx)
		if err != nil {
			return "", err
		}
		done, stored, err := a.step(ctx, t, step, force)
		if err != nil {
			return "", err
		}
		if about != nil {
			about(done)
		}
		rev, err := a.write(ctx, stored, t.mod)
		if errs.Is(err, errs.Conflict) {
			continue
		}
		if err != nil {
			return "", err
		}
		if err := a.table.WaitFor(ctx, rev); err != nil {
			return "", err
		}
		return done, a.serve()
	}
	return "", errs.New(errs.Conflict, "somebody else rotates the certificate authority")
}

func (a *Authority) step(ctx context.Context, t *trust, step Step, force bool) (Step, authorityRecord, error) {
	out := t.stored
	out.Roots = slices.Clone(t.stored.Roots)
	next, former := t.in(Next), t.in(Former)
	if step == "" {
		switch {
		case former != nil:
			step = Retire
		case next != nil:
			step = Activate
		default:
			step = Prepare
		}
	}
	switch {
	case step == Prepare && (next != nil || former != nil):
		return "", out, errs.New(errs.Precondition, "a rotation goes on: activate or retire comes next")
	case step == Activate && next == nil:
		return "", out, errs.New(errs.Precondition, "there is no next root: prepare comes first")
	case step == Retire && former == nil:
		return "", out, errs.New(errs.Precondition, "there is no former root")
	}
	var err error
	switch step {
	case Prepare:
		err = a.prepare(&out)
	case Activate:
		err = a.activate(ctx, &out, next, force)
	case Retire:
		err = a.retire(&out, force)
	default:
		err = errs.New(errs.Invalid, "step %q isn't known", step)
	}
	return step, out, err
}

func (a *Authority) prepare(out *authorityRecord) error {
	r, err := newRoot(a.domain, a.cfg.Now())
	if err != nil {
		return err
	}
	stored, err := recordOf(r, Next)
	out.Roots = append(out.Roots, stored)
	return err
}

func (a *Authority) activate(ctx context.Context, out *authorityRecord, next *root, force bool) error {
	now := a.cfg.Now()
	till := now.Add(a.cfg.LeafTTL)
	all, err := a.Issued(ctx, "", "")
	if err != nil {
		return err
	}
	behind := 0
	for _, i := range all {
		if i.NotAfter.After(till) {
			till = i.NotAfter
		}
		if a.behind(i, next.pin, now) {
			behind++
		}
	}
	tokens, err := a.JoinTokens(ctx, "")
	if err != nil {
		return err
	}
	if (behind > 0 || len(tokens) > 0) && !force {
		return errs.New(errs.Precondition, "%d instances hold a certificate that came without the next root, and %d join tokens pin the former one: they would be locked out (wait until all have renewed, at the latest %s after prepare, or force it)", behind, len(tokens), a.cfg.LeafTTL)
	}
	for i := range out.Roots {
		switch r := &out.Roots[i]; r.State {
		case Active:
			r.State, r.Key, r.IssuerKey, r.LeavesTill = Former, nil, nil, till.Unix()
		case Next:
			r.State = Active
		default: // there is no former one: it was retired before
		}
	}
	return nil
}

// behind says whether an instance may be connected that doesn't trust a root.
func (a *Authority) behind(i Issued, pin string, now time.Time) bool {
	return i.NotAfter.After(now) && !slices.Contains(i.Roots, pin) && !a.IsRevoked(i)
}

// Behind says which of the certificates came without the next root; none where there is no next one.
func (a *Authority) Behind(all []Issued) []Issued {
	next := a.trust.Load().in(Next)
	if next == nil {
		return nil
	}
	now := a.cfg.Now()
	return slices.DeleteFunc(slices.Clone(all), func(i Issued) bool { return !a.behind(i, next.pin, now) })
}

func (a *Authority) retire(out *authorityRecord, force bool) error {
	now := a.cfg.Now()
	for _, r := range out.Roots {
		if till := time.Unix(r.LeavesTill, 0); r.State == Former && till.After(now) && !force {
			return errs.New(errs.Precondition, "certificates of the former root are valid until %s: wait, or force it", till.UTC().Format(time.RFC3339))
		}
	}
	out.Roots = slices.DeleteFunc(out.Roots, func(r rootRecord) bool { return r.State == Former })
	return nil
}
