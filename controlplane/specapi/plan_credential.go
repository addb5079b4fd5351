package specapi

import (
	"slices"
	"strings"

	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/specfile"
)

// originsPart is HeadMove.Part of where a credential may be sent.
const originsPart = "allowedOrigins"

// credentialFile works through a Credential document. What it doesn't say stays as it is.
func (p *plan) credentialFile(x *specfile.Credential) error {
	was, existed := p.credentialHead(x.Name)
	if x.Value.IsZero() && (!existed || was.head.Deleted) {
		p.fault(x.Object, "value", "is missing: credential "+x.Name+" doesn't exist yet", "")
		return nil
	}
	action := actionUnchanged
	if !x.Value.IsZero() {
		var err error
		if action, err = p.credential(x.Name, x.Value); err != nil {
			return err
		}
	}
	moved := x.AllowedOrigins != nil && p.bind(x)
	switch {
	case action != actionUnchanged: // told already
	case moved:
		p.result(kindCredential, x.Name, was.head.Version, actionUpdated, "")
	default:
		p.result(kindCredential, x.Name, was.head.Version, actionUnchanged, "")
	}
	return nil
}

// credential seals a value under a name, unless it is the one last applied from a file for this place, and says what became of it.
func (p *plan) credential(name string, value secret.Value) (action string, err error) {
	was, existed := p.credentialHead(name)
	head := was.head
	mark := p.svc.vault.fingerprint(p.namespace, name, value)
	if existed && !head.Deleted && p.svc.vault.prints.Load().Equal(head.Fingerprint, mark) {
		if head.Rotated {
			p.note("credential %s is the value last applied from a file; it was rotated since and stays as it is", name)
		}
		return actionUnchanged, nil
	}
	action = verb(existed, head.Deleted)
	old := head.Version
	if head.Deleted {
		head.AllowedOrigins = nil // they were the former credential's
	}
	head.Name, head.Deleted, head.Updated, head.By = name, false, p.now, p.who
	head.Fingerprint, head.Rotated = mark, false
	needed := p.svc.view.NeededVersions(kindCredential, p.namespace, name)
	head, err = head.Next(needed, func(version int64) ([]byte, error) { return p.svc.vault.Seal(p.namespace, name, version, value) })
	if err != nil {
		return "", err
	}
	p.putCredential(head, was.mod, head.Move(old))
	p.result(kindCredential, name, head.Version, action, "")
	return action, nil
}

// bind sets where a credential may be sent and says whether that is another place than before.
func (p *plan) bind(x *specfile.Credential) bool {
	was, _ := p.credentialHead(x.Name)
	head := was.head
	if slices.Equal(head.AllowedOrigins, x.AllowedOrigins) {
		return false
	}
	move := view.HeadMove{Kind: kindCredential, Name: head.Name, Part: originsPart, From: originsText(head.AllowedOrigins), To: originsText(x.AllowedOrigins)}
	head.AllowedOrigins, head.Updated, head.By = slices.Clone(x.AllowedOrigins), p.now, p.who
	p.putCredential(head, was.mod, move)
	p.bound = append(p.bound, x)
	return true
}

func originsText(origins []string) string {
	if len(origins) == 0 {
		return "anywhere"
	}
	return strings.Join(origins, ", ")
}

func (p *plan) putCredential(head view.CredentialHead, mod int64, m view.HeadMove) {
	p.credentials[strings.ToLower(head.Name)] = planned[view.CredentialHead]{head: head, mod: mod}
	p.change.Replace(kindCredential, head.Name, mod, view.Encode(head), m)
}
