package specapi

import (
	"context"
	"slices"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/specfile"
)

// Export answers canonical files from which Apply makes the same objects. Credentials are write-only: only references
// to them are exported. What the caller may not see is left out, where it is named it isn't there.
func (s *Service) Export(ctx context.Context, req *connect.Request[specv1.ExportRequest]) (*connect.Response[specv1.ExportResponse], error) {
	m := req.Msg
	namespace := namespaceOf(m.GetNamespace())
	e := &exporter{svc: s, who: s.caller(ctx), namespace: namespace, done: map[headRef]bool{}}
	var err error
	switch {
	case m.GetKind() == "" && len(m.GetNames()) > 0:
		err = errs.New(errs.Invalid, "names need a kind")
	case m.GetRevision() != 0 && (m.GetKind() != kindAgent || len(m.GetNames()) != 1):
		err = errs.New(errs.Invalid, "a revision needs one agent's name")
	case m.GetKind() == kindCredential:
		err = errs.New(errs.Unsupported, "credentials are write-only: they are not exported")
	case m.GetKind() == "":
		err = e.kinds(kindAgent, kindPrompt, kindMCP)
	default:
		err = checkKind(m.GetKind())
		if err == nil && len(m.GetNames()) == 0 {
			err = e.kinds(m.GetKind())
		}
		for _, name := range m.GetNames() {
			if err == nil {
				err = e.add(ctx, headRef{kind: m.GetKind(), name: name}, number(m.GetRevision()))
			}
		}
	}
	if err == nil && m.GetWithReferences() {
		err = e.references(ctx)
	}
	if err != nil {
		return nil, err
	}
	files, err := specfile.Files(&e.set)
	if err != nil {
		return nil, err
	}
	resp := &specv1.ExportResponse{}
	for _, f := range files {
		resp.Files = append(resp.Files, &specv1.File{Path: f.Path, Content: f.Content})
	}
	return connect.NewResponse(resp), nil
}

// exporter gathers a set of stored objects.
type exporter struct {
	svc       *Service
	who       caller
	namespace string
	set       specfile.Set
	done      map[headRef]bool
}

func (e *exporter) kinds(kinds ...string) error {
	for _, kind := range kinds {
		err := e.svc.each(e.who, kind, view.Page{Namespace: e.namespace}, nil, func(o *specv1.Object) (bool, error) {
			return true, e.put(headRef{kind: kind, name: o.GetName()}, o)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *exporter) add(ctx context.Context, ref headRef, version string) error {
	if e.done[ref] {
		return nil
	}
	if err := access.Check(ctx, permRead, e.svc.objectOf(ref.kind, e.namespace, ref.name)); err != nil {
		return err
	}
	o, err := e.svc.object(e.namespace, ref.kind, ref.name, version)
	if err != nil {
		return err
	}
	if o.GetDeleted() && version == "" {
		return errs.New(errs.NotFound, "%s %s is deleted", ref.kind, ref.name)
	}
	return e.put(ref, o)
}

// put adds an object once.
func (e *exporter) put(ref headRef, o *specv1.Object) error {
	if e.done[ref] {
		return nil
	}
	e.done[ref] = true
	content := []byte(o.GetJson())
	switch ref.kind {
	case kindAgent:
		a, err := spec.DecodeAgent(content)
		if err != nil {
			return err
		}
		e.set.Agents = append(e.set.Agents, &specfile.Agent{Spec: *a})
	case kindPrompt:
		p, err := spec.DecodePrompt(content)
		if err != nil {
			return err
		}
		e.set.Prompts = append(e.set.Prompts, &specfile.Prompt{Spec: *p})
	case kindMCP:
		srv, err := spec.DecodeMCPServer(content)
		if err != nil {
			return err
		}
		head, _, _ := e.svc.view.MCP(e.namespace, ref.name)
		e.set.MCPServers = append(e.set.MCPServers, &specfile.MCPServer{Spec: *srv, Head: spec.MCPHead{Enabled: head.Enabled, Tools: head.Tools}})
	}
	return nil
}

// references adds what the set's agents refer to, as it counts now.
func (e *exporter) references(ctx context.Context) error {
	for _, a := range slices.Clone(e.set.Agents) {
		for _, r := range a.Spec.References() {
			if (r.Kind != kindPrompt && r.Kind != kindMCP) || !e.who.sees(r.Kind, e.namespace, r.Name) {
				continue
			}
			if err := e.add(ctx, headRef{kind: r.Kind, name: r.Name}, r.Version); err != nil {
				return err
			}
		}
	}
	return nil
}

// Schema answers the JSON Schema that Apply validates with.
func (s *Service) Schema(_ context.Context, req *connect.Request[specv1.SchemaRequest]) (*connect.Response[specv1.SchemaResponse], error) {
	resp := &specv1.SchemaResponse{Kinds: spec.Kinds()}
	if kind := req.Msg.GetKind(); kind != "" {
		if !slices.Contains(spec.Kinds(), kind) {
			return nil, errs.New(errs.NotFound, "there is no schema %q", kind)
		}
		b, err := spec.Schema(kind)
		if err != nil {
			return nil, err
		}
		resp.JsonSchema = string(b)
	}
	return connect.NewResponse(resp), nil
}
