package assembler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/agentd/configclient"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/approval"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/prompt"
	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/tokens"
)

// build is one config on its way to be a set, beside the running one. Until swap takes it over, discard undoes it.
type build struct {
	a       *Assembler
	u       configclient.Update
	running *set
	next    *set
	self    string // agent/NAME

	agent     *spec.Agent
	agentLine manifest.Line
	prompt    *spec.Prompt
	servers   map[string]*spec.MCPServer // by lower-case name
	lines     map[string]manifest.Line   // their lines, likewise
	policies  map[string]*spec.Policy
	view      credentials
	system    string
	modelKey  string
	approval  *approval.Policy // nil: no tool needs consent
	faults    []phase.Fault    // warnings, and errors that refuse
	degraded  []phase.Fault    // errors that don't
}

// run builds and probes. ok is false when the set may not be swapped in: then the verdict says why.
func (b *build) run(ctx context.Context) (v configclient.Verdict, ok bool) {
	b.view = make(credentials, len(b.u.Credentials))
	for name, c := range b.u.Credentials {
		b.view[name] = c.Value
	}
	b.decode()
	if b.refused() {
		return b.rejection(), false
	}
	b.require()
	b.makeModel(ctx)
	b.renderPrompt()
	b.makeServers()
	b.makeStorage()
	b.makeApproval()
	b.judgeSigning()
	if b.refused() {
		return b.rejection(), false
	}
	findings := b.probe(ctx)
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return retry(phase.Fault{Resource: b.self, Code: phase.Timeout, Message: "superseded by a newer config"}), false
	}
	if v, refused := b.judge(findings); refused {
		return v, false
	}
	b.finish()
	return v, true
}

// decode reads every resource strictly and collects all faults.
func (b *build) decode() {
	b.servers, b.policies, b.lines = map[string]*spec.MCPServer{}, map[string]*spec.Policy{}, map[string]manifest.Line{}
	for _, l := range b.u.Lines {
		raw := b.u.Resources[l.Resource()]
		var err error
		switch l.Kind {
		case manifest.KindAgent:
			b.self, b.agentLine = l.Resource(), l
			b.agent, err = spec.DecodeAgentFor(raw, b.a.cfg.Capabilities)
		case manifest.KindPrompt:
			b.prompt, err = spec.DecodePrompt(raw)
		case manifest.KindMCP:
			b.servers[strings.ToLower(l.Name)], err = spec.DecodeMCPServerFor(raw, b.a.cfg.Capabilities)
			b.lines[strings.ToLower(l.Name)] = l
		case manifest.KindPolicy:
			b.policies[strings.ToLower(l.Name)], err = spec.DecodePolicy(raw)
		case manifest.KindCredential:
		default:
			err = fmt.Errorf("this agentd knows no resource of kind %q", l.Kind)
		}
		if err != nil {
			b.refuse(l.Resource(), phase.Invalid, err)
		}
	}
	if b.agent == nil && !b.refused() {
		b.refuse(b.self, phase.Invalid, errors.New("the config holds no agent"))
	}
	b.next.agent, b.next.self = b.agent, b.self
}

// refuse notes errors that refuse the config, one fault for each.
func (b *build) refuse(resource string, code phase.Code, err error) {
	var many spec.FaultsError
	if !errors.As(err, &many) {
		b.fault(resource, "", code, phase.Error, err.Error())
		return
	}
	for _, f := range many {
		b.fault(resource, f.Path, code, phase.Error, f.Message)
	}
}

// fault notes one, once.
func (b *build) fault(resource, field string, code phase.Code, sev phase.Severity, message string) {
	f := phase.Fault{Resource: resource, Field: field, Code: code, Message: message, Severity: sev}
	same := func(o phase.Fault) bool {
		return o.Resource == resource && o.Field == field && o.Code == code && o.Severity == sev
	}
	if !slices.ContainsFunc(b.faults, same) {
		b.faults = append(b.faults, f)
	}
}

func (b *build) refused() bool {
	return slices.ContainsFunc(b.faults, func(f phase.Fault) bool { return f.Severity == phase.Error })
}

func (b *build) rejection() configclient.Verdict {
	return configclient.Verdict{Phase: phase.Rejected, Faults: b.faults}
}

// require answers what a resource requires beyond this agentd's capabilities.
func (b *build) require() {
	check := func(resource string, needs []spec.Requirement) {
		for _, r := range needs {
			if slices.Contains(b.a.cfg.Capabilities, r.Capability) {
				continue
			}
			sev := phase.Warning
			if r.Refuse {
				sev = phase.Error
			}
			b.fault(resource, r.Field, phase.NotSupported, sev, "this agentd can't do "+r.Capability+"; the field has no effect")
		}
	}
	check(b.self, b.agent.Requires)
	for name, s := range b.servers {
		check(b.lines[name].Resource(), s.Requires)
	}
}

// makeModel takes or makes the model client. A model can't be probed without paying for it.
func (b *build) makeModel(ctx context.Context) {
	m := b.agent.Model
	base := m.BaseURL
	if over := b.a.cfg.ModelBaseURL; over != "" {
		base = over
		b.fault(b.self, "model.baseUrl", phase.NotSupported, phase.Warning, "overridden here by --model-base-url "+over)
	}
	if base == "" {
		b.fault(b.self, "model.baseUrl", phase.NotSupported, phase.Warning, "no model endpoint is configured, here or in the spec: every request is answered with an error")
		return
	}
	b.next.baseURL = spec.EffectiveBaseURL(base)
	b.permit(ctx)
	var err error
	b.modelKey = modelKey(m, b.next.baseURL)
	b.next.model, err = b.a.models.take(b.modelKey, b.view, func(c Credentials) (endpoint, error) {
		client, err := b.a.cfg.Models.NewModel(ModelSettings{Spec: m, BaseURL: b.next.baseURL, Credentials: c})
		return endpoint{Model: client, calibrator: &tokens.Calibrator{}}, err
	})
	if err != nil {
		b.fault(b.self, "model", phase.Invalid, phase.Error, err.Error())
	}
}

// permit asks whether the endpoints of the model and its fallbacks may be connected to. Only a new or changed spec is refused for it; a
// proven one is served, DEGRADED, and its calls fail.
func (b *build) permit(ctx context.Context) {
	if b.a.cfg.Permit == nil {
		return
	}
	refuses := b.unproven(b.agentLine)
	if !refuses { // what can't refuse isn't waited for
		ended, cancel := context.WithCancel(ctx)
		cancel()
		ctx = ended
	}
	ask := func(url, field string) {
		err := b.a.cfg.Permit(ctx, url)
		if err == nil {
			return
		}
		f := phase.Fault{Resource: b.self, Field: field, Code: phase.Invalid, Message: err.Error(), Severity: phase.Error}
		if refuses {
			b.faults = append(b.faults, f)
		} else {
			b.degraded = append(b.degraded, f)
		}
	}
	ask(b.next.baseURL, "model.baseUrl")
	if b.a.cfg.ModelBaseURL != "" {
		return // which all are asked at
	}
	for i, m := range b.agent.Model.Fallbacks {
		if m.BaseURL != "" {
			ask(spec.EffectiveBaseURL(m.BaseURL), spec.Index("model.fallbacks", i)+".baseUrl")
		}
	}
}

func (b *build) renderPrompt() {
	if b.prompt == nil {
		if b.agent.PromptKey != "" {
			b.fault(b.self, "promptKey", phase.Invalid, phase.Error, fmt.Sprintf("the config holds no prompt %q", b.agent.PromptKey))
		}
		return
	}
	resource := manifest.KindPrompt + "/" + b.prompt.PromptKey
	t, err := prompt.Parse(b.prompt.Template)
	if err != nil {
		b.fault(resource, "template", phase.Invalid, phase.Error, err.Error())
		return
	}
	if b.system, err = t.Render(b.agent.PromptVariables, b.prompt.Variables); err != nil {
		b.refuse(b.self, phase.Invalid, err)
		return
	}
	for _, f := range prompt.CheckValues(*b.prompt, b.agent.PromptVariables) {
		b.fault(b.self, f.Path, phase.Invalid, phase.Warning, f.Message)
	}
}

// makeServers takes or makes a client for every MCP server that this agentd can speak to.
func (b *build) makeServers() {
	for i, ref := range b.agent.MCPServers {
		name := strings.ToLower(ref.MCPServerName)
		entry, ok := b.servers[name]
		if !ok {
			b.fault(b.self, spec.Index("mcpServers", i)+".mcpServerName", phase.Invalid, phase.Error,
				fmt.Sprintf("the config holds no MCP server %q", ref.MCPServerName))
			continue
		}
		line := b.lines[name]
		if entry.Transport != "streamable-http" {
			b.fault(line.Resource(), "transport", phase.NotSupported, phase.Warning, "this agentd can't do transport "+entry.Transport+"; its tools are missing")
			continue
		}
		client, err := b.a.servers.take(serverKey(*entry, ref), b.view, func(c Credentials) (Server, error) {
			return b.a.cfg.Servers.NewServer(ServerSettings{Entry: *entry, Ref: ref, Credentials: c, Changed: b.a.changed})
		})
		if err != nil {
			b.fault(line.Resource(), "", phase.Invalid, phase.Error, err.Error())
			continue
		}
		b.next.members = append(b.next.members, &member{index: i, ref: ref, line: line, policy: b.policies[name], client: client})
	}
}

// makeStorage takes or makes where sessions and suspended runs are kept.
func (b *build) makeStorage() {
	m := b.agent.Memory
	var err error
	b.next.storage, err = b.a.storages.take(storageKey(m, b.modelKey), b.view, func(c Credentials) (Storage, error) {
		return b.a.cfg.Storages.NewStorage(StorageSettings{
			Namespace: b.a.cfg.Namespace, Agent: b.agent.AgentName, Spec: m, Credentials: c, Embed: b.next.embedder(), Changed: b.a.changed,
		})
	})
	if err != nil {
		b.fault(b.self, "memory", phase.Invalid, phase.Error, err.Error())
	}
}

// makeApproval compiles which tools need consent.
func (b *build) makeApproval() {
	if b.agent.Approval == nil {
		return
	}
	var faults []spec.Fault
	b.approval, faults = approval.Compile(b.agent.Approval.Tools)
	for _, f := range faults {
		b.fault(b.self, f.Path, phase.Invalid, phase.Error, f.Message)
	}
}

// unproven reports whether a line is new or changed and was never applied: only such a one may refuse.
func (b *build) unproven(l manifest.Line) bool {
	return !b.u.FromLastGood && !b.u.Proven[l.Resource()] && !b.running.has(l)
}

// probe waits for the servers that the running set doesn't have, all at once: until the deadline where a server may refuse,
// else for a moment only.
func (b *build) probe(ctx context.Context) []finding {
	type answer struct {
		m   *member // nil: the storage
		err error
	}
	answers := make(chan answer, len(b.next.members)+1)
	waiting := 0
	connect := func(m *member, limit time.Duration, do func(context.Context) error) {
		waiting++
		b.a.wg.Go(func() {
			pctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			answers <- answer{m: m, err: do(pctx)}
		})
	}
	if !b.sameStorage() {
		limit := patience
		if b.unproven(b.agentLine) {
			limit = time.Hour // ctx ends it
		}
		connect(nil, limit, b.next.storage.value.Connect)
	}
	for _, m := range b.next.members {
		if b.running.holds(m.client) {
			continue
		}
		limit := patience
		if b.unproven(m.line) && m.ref.Required {
			limit = time.Hour // ctx ends it
		}
		connect(m, limit, m.client.value.Connect)
	}
	failed := map[*member]error{}
	for range waiting {
		if r := <-answers; r.err != nil {
			failed[r.m] = r.err
		}
	}
	out := b.storageFindings(failed[nil])
	for _, m := range b.next.members {
		found := b.next.inspect(m)
		var why *ServerError
		if errors.As(failed[m], &why) && len(found) == 1 && found[0].dependent {
			// The attempt's own error says more than the health so far.
			found[0].Code, found[0].Message, found[0].Retryable = why.Code, why.Error(), why.Code.Retryable()
			found[0].ofAgent = !why.Code.Retryable()
		}
		for i := range found {
			found[i].dependent = found[i].dependent && !m.ref.Required
		}
		out = append(out, found...)
	}
	return out
}

// sameStorage reports whether the running set keeps its sessions in the same place already: then it can't refuse.
func (b *build) sameStorage() bool {
	return b.running != nil && b.running.storage == b.next.storage
}

// storageFindings is what is wrong with the storage after an attempt to reach it, which failed with err or didn't. An attempt's own error
// says more than the health so far.
func (b *build) storageFindings(err error) []finding {
	found := b.next.inspectStorage()
	var why *ServerError
	if errors.As(err, &why) && len(found) == 1 {
		found[0].Code, found[0].Message, found[0].Retryable = why.Code, why.Error(), why.Code.Retryable()
	}
	for i := range found {
		found[i].line, found[i].ofAgent = b.agentLine, !b.sameStorage()
	}
	return found
}

// judge decides whether findings refuse the config (semantics.md 6): for good, or until a retry.
func (b *build) judge(findings []finding) (configclient.Verdict, bool) {
	refusing := slices.Clone(b.faults)
	errorsFound, final := 0, false
	for _, f := range findings {
		blame := (f.ofEntry && b.unproven(f.line)) || (f.ofAgent && b.unproven(b.agentLine))
		if !blame || f.dependent {
			continue
		}
		if f.ofAgent && f.Resource != b.self && !b.unproven(f.line) {
			f.Resource, f.Field = b.self, "mcpServers"
			f.Message = f.line.Name + ": " + f.Message
		}
		errorsFound++
		final = final || !f.Retryable
		refusing = append(refusing, f.Fault)
	}
	switch {
	case errorsFound == 0:
		return configclient.Verdict{}, false
	case final:
		return configclient.Verdict{Phase: phase.Rejected, Faults: refusing}, true
	default:
		return configclient.Verdict{Phase: phase.Received, Faults: refusing}, true
	}
}

// finish puts the Runtime together.
func (b *build) finish() {
	s := b.next
	s.static = slices.Concat(b.faults, b.degraded)
	s.wallTime = defaultWallTime
	rt := &run.Runtime{
		Namespace: b.a.cfg.Namespace, Agent: b.agent.AgentName, Revision: b.u.Revision, Config: b.u.Config(),
		System: b.system, ModelName: b.agent.Model.Model, MaxIterations: b.agent.MaxIterations,
		Tools: &toolset{members: s.members, denied: &b.a.denied}, Model: noModel{},
		MemoryFail: b.agent.Memory.OnUnavailable != "stateless", Compact: b.agent.Memory.CompressionStrategy == "summarize",
		ToolPayload: b.agent.Memory.ToolPayloadBytes,
	}
	stores := s.storage.value.Stores()
	rt.Memory, rt.Sessions, rt.Pending, rt.Tasks = stores.Memory, stores.Sessions, stores.Pending, stores.Tasks
	if s.model != nil {
		rt.Model, rt.Calibrator = s.model.value.Model, s.model.value.calibrator
	}
	if b.approval != nil {
		rt.Approval = &run.Approval{Needs: b.approval.Needs, Timeout: b.agent.Approval.Timeout.Std()}
	}
	b.expose(rt)
	// gofail: var mutateMixed struct{}
	// if b.running != nil { rt.System = b.running.runtime.System }

	if b.prompt != nil {
		rt.PromptKey, rt.PromptVersion = b.prompt.PromptKey, b.prompt.Version
	}
	if l := b.agent.Limits; l != nil {
		rt.ToolCalls, rt.Tokens, rt.CostUSD, rt.SameCall = l.ToolCalls, l.Tokens, l.CostUSD, l.SameCall
		if l.WallTime > 0 {
			s.wallTime = l.WallTime.Std()
		}
	}
	rt.WallTime = s.wallTime
	s.runtime = rt
}

// settle gives every client of the set its credentials, just before the swap. Clients that only the old set uses keep the
// old values until it has drained.
func (b *build) settle() {
	for _, m := range b.next.members {
		m.client.creds.set(b.view)
	}
	if b.next.model != nil {
		b.next.model.creds.set(b.view)
	}
	b.next.storage.creds.set(b.view)
}

// discard undoes a half-built set, beside whatever comes next: closing a client may take a moment.
func (b *build) discard() { b.a.wg.Go(b.next.close) }
