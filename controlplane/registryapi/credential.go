package registryapi

import (
	"context"
	"math"
	"slices"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/controlplane/headwrite"
	"github.com/agentry/agentry/controlplane/once"
	"github.com/agentry/agentry/controlplane/view"
	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
)

// maxValue is the most bytes that a credential's value may have.
const maxValue = 64 << 10

func valueOf(b []byte) (secret.Value, error) {
	if len(b) == 0 {
		return secret.Value{}, errs.New(errs.Invalid, "the value is empty")
	}
	if len(b) > maxValue {
		return secret.Value{}, errs.New(errs.Invalid, "the value has %d bytes, at most %d fit", len(b), maxValue)
	}
	return secret.NewValue(string(b)), nil
}

// originsOf reads where a credential may be sent.
func originsOf(texts []string) ([]string, error) {
	var out []string
	for i, s := range texts {
		if !spec.ValidOrigin(s) {
			return nil, errs.New(errs.Invalid, "allowed_origins[%d]: want %s", i, spec.RuleOrigin)
		}
		out = append(out, spec.Origin(s))
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Create makes a credential. Version numbers go on where one of this name was deleted before.
func (s *Service) Create(ctx context.Context, req *connect.Request[registryv1.CreateRequest]) (*connect.Response[registryv1.CreateResponse], error) {
	m := req.Msg
	namespace := namespaceOf(m.GetNamespace())
	if !spec.ValidName(m.GetName()) || !spec.ValidName(namespace) {
		return nil, errs.New(errs.Invalid, "credential %q in namespace %q: not a name", m.GetName(), namespace)
	}
	value, err := valueOf(m.GetValue())
	if err != nil {
		return nil, err
	}
	origins, err := originsOf(m.GetAllowedOrigins())
	if err != nil {
		return nil, err
	}
	tell(ctx, manifest.KindCredential, m.GetName(), m.GetMessage())
	resp := &registryv1.CreateResponse{}
	resp.StoreRevision, err = s.writer.Retrying(ctx, why(ctx, "create", m.GetMessage()), func() (*headwrite.Change, error) {
		c := headwrite.NewChange(namespace)
		head, mod, ok := s.cfg.View.Credential(namespace, m.GetName())
		if ok && !head.Deleted {
			return nil, errs.New(errs.Exists, "credential %s exists; rotate gives it another value", head.Name)
		}
		resp.Version = head.Version + 1
		if m.GetDryRun() {
			return c, nil
		}
		once.Answer(ctx, resp)
		next := view.CredentialHead{Name: m.GetName(), Version: head.Version, AllowedOrigins: origins}
		return c, s.putValue(ctx, c, next, mod, value)
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(resp), nil
}

// Rotate seals a new value.
func (s *Service) Rotate(ctx context.Context, req *connect.Request[registryv1.RotateRequest]) (*connect.Response[registryv1.RotateResponse], error) {
	m := req.Msg
	namespace := namespaceOf(m.GetNamespace())
	value, err := valueOf(m.GetValue())
	if err != nil {
		return nil, err
	}
	tell(ctx, manifest.KindCredential, m.GetName(), m.GetMessage())
	resp := &registryv1.RotateResponse{}
	resp.StoreRevision, err = s.writer.Retrying(ctx, why(ctx, "rotate", m.GetMessage()), func() (*headwrite.Change, error) {
		c := headwrite.NewChange(namespace)
		head, mod, err := s.credential(namespace, m.GetName())
		if err != nil {
			return nil, err
		}
		if m.CheckRevision != nil && m.GetCheckRevision() != head.Version {
			return nil, errs.New(errs.Conflict, "credential %s is at version %d, not %d: read it again", head.Name, head.Version, m.GetCheckRevision())
		}
		resp.From, resp.Version = head.Version, head.Version+1
		resp.Agents = agents(s.seenBy(ctx, namespace, s.users(manifest.KindCredential, namespace, head.Name)))
		if m.GetDryRun() {
			return c, nil
		}
		once.Answer(ctx, resp)
		head.Rotated = true
		return c, s.putValue(ctx, c, head, mod, value)
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(resp), nil
}

func (s *Service) credential(namespace, name string) (view.CredentialHead, int64, error) {
	h, mod, ok := s.cfg.View.Credential(namespace, name)
	if !ok || h.Deleted || h.Name != name {
		return view.CredentialHead{}, 0, notFound(manifest.KindCredential, namespace, name)
	}
	return h, mod, nil
}

// putValue writes a head with one more version.
func (s *Service) putValue(ctx context.Context, c *headwrite.Change, head view.CredentialHead, mod int64, value secret.Value) error {
	before := head.Version
	needed := s.cfg.View.NeededVersions(manifest.KindCredential, c.Namespace(), head.Name)
	head, err := head.Next(needed, func(version int64) ([]byte, error) {
		return s.cfg.Vault.Seal(c.Namespace(), head.Name, version, value)
	})
	if err != nil {
		return err
	}
	head.Updated, head.By = s.cfg.Now().UTC(), why(ctx, "", "").Actor
	c.Replace(manifest.KindCredential, head.Name, mod, view.Encode(head), head.Move(before))
	return nil
}

// UsedBy answers where a credential is referred to by agents that the caller may see.
func (s *Service) UsedBy(ctx context.Context, req *connect.Request[registryv1.UsedByRequest]) (*connect.Response[registryv1.UsedByResponse], error) {
	m := req.Msg
	namespace := namespaceOf(m.GetNamespace())
	head, _, err := s.credential(namespace, m.GetName())
	if err != nil {
		return nil, err
	}
	resp := &registryv1.UsedByResponse{}
	for _, p := range s.seenBy(ctx, namespace, s.users(manifest.KindCredential, namespace, head.Name)) {
		for _, r := range p.spec.Credentials() {
			if r.Name == head.Name {
				resp.Uses = append(resp.Uses, &registryv1.CredentialUse{Agent: p.agent, Revision: p.revision, Role: p.role, Path: r.Path})
			}
		}
	}
	return connect.NewResponse(resp), nil
}

// List answers the credentials of a namespace that the caller may see, and of the agents that use each how many it may see.
func (s *Service) List(ctx context.Context, req *connect.Request[registryv1.ListRequest]) (*connect.Response[registryv1.ListResponse], error) {
	namespace := namespaceOf(req.Msg.GetNamespace())
	resp := &registryv1.ListResponse{}
	for _, e := range s.cfg.View.Credentials(namespace) {
		if e.Head.Deleted || !s.sees(ctx, manifest.KindCredential, namespace, e.Head.Name) {
			continue
		}
		used := 0
		for _, a := range s.cfg.View.Dependents(manifest.KindCredential, namespace, e.Head.Name) {
			if s.sees(ctx, manifest.KindAgent, namespace, a.Name) {
				used++
			}
		}
		resp.Credentials = append(resp.Credentials, &registryv1.Credential{
			Name: e.Head.Name, Version: e.Head.Version, Rotated: e.Head.Rotated, Agents: int32(min(used, math.MaxInt32)),
			AllowedOrigins: e.Head.AllowedOrigins, Updated: timestamppb.New(e.Head.Updated), UpdatedBy: e.Head.By, StoreRevision: e.ModRevision,
		})
	}
	return connect.NewResponse(resp), nil
}
