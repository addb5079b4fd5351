package command

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"github.com/spf13/cobra"

	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/a2aclient"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/errs"
)

// farAgent says which agent is asked by A2A, and how.
type farAgent struct {
	address string
	task    string
	tenant  string
	verify  string
	trusted string
	origins []string
	egress  []string
}

func (f *farAgent) bind(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.address, "a2a", "", "ask the A2A agent at this URL (its own, or its card's) instead of one of the control plane's")
	fl.StringVar(&f.task, "task", "", "with --a2a: go on with this task; without a message: watch it")
	fl.StringVar(&f.tenant, "tenant", "", "with --a2a: the tenant (default: the card's)")
	fl.StringVar(&f.verify, "verify-signature", "", "with --a2a: what the card's signature must be: require, verify (what is signed by a known key must fit) or off; default verify, with --trusted-key require")
	fl.StringVar(&f.trusted, "trusted-key", "", "with --a2a: file with the keys that may sign the card (PEM or JWK set; default: those that the card names at its own origin)")
	fl.StringArrayVar(&f.origins, "key-origin", nil, "with --a2a: origin beside the card's that the key may go to (https://api.example.com)")
	fl.StringArrayVar(&f.egress, "egress-allow", nil, "with --a2a: an address, CIDR or host that isn't public and that the card may lead to (the URL's own is allowed)")
	_ = cmd.RegisterFlagCompletionFunc("verify-signature", cobra.FixedCompletions([]string{"require", "verify", "off"}, cobra.ShellCompDirectiveNoFileComp))
}

// alone refuses flags that count with --a2a only.
func (f *farAgent) alone(cmd *cobra.Command) error {
	for _, name := range []string{"task", "tenant", "verify-signature", "trusted-key", "key-origin", "egress-allow"} {
		if cmd.Flags().Changed(name) {
			return usagef("--%s counts with --a2a only", name)
		}
	}
	return nil
}

// farDoc is what became of a message to an A2A agent.
type farDoc struct {
	Agent     string          `json:"agent"`
	URL       string          `json:"url"`     // of the interface that answered
	Binding   string          `json:"binding"` // JSONRPC, HTTP+JSON or GRPC
	Signature string          `json:"signature"`
	Task      string          `json:"task,omitempty"` // none: the agent answered by a message
	Context   string          `json:"context,omitempty"`
	State     string          `json:"state,omitempty"` // as the protocol names it
	Text      string          `json:"text"`
	Result    json.RawMessage `json:"result"` // the task, or the message
}

func (c *cli) invokeA2A(ctx context.Context, f farAgent, in invocation, names []string, timeout time.Duration) error {
	switch {
	case len(names) > 0:
		return usagef("--a2a URL, or an agent's name, not both")
	case in.revision != 0:
		return usagef("--revision doesn't count with --a2a")
	}
	cfg, err := c.farConfig(f, in)
	if err != nil {
		return err
	}
	waiting, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	agent, err := a2aclient.Open(waiting, f.address, cfg)
	if err != nil {
		return f.failed(err)
	}
	defer agent.Close()
	if !c.flags.quiet {
		c.note("%s: %s", agent.Card().GetName(), signatureText(agent.Signature()))
	}
	p := &farPrinter{cli: c, in: in, shown: map[string]*strings.Builder{}}
	events := agent.Watch(waiting, f.task)
	if in.text != "" {
		events = agent.Follow(waiting, &pb.SendMessageRequest{Message: &pb.Message{
			MessageId: rand.Text(), Role: pb.Role_ROLE_USER, TaskId: f.task, ContextId: in.session, Parts: []*pb.Part{{Content: &pb.Part_Text{Text: in.text}}},
		}})
	}
	for ev, err := range events {
		if err != nil {
			return c.farBroken(ctx, agent, f, p.task, err)
		}
		if err := p.event(ev); err != nil {
			return err
		}
	}
	return p.end(agent, f)
}

// farConfig says how the agent is called. Addresses that aren't public are reached where the user named them.
func (c *cli) farConfig(f farAgent, in invocation) (a2aclient.Config, error) {
	cfg := a2aclient.Config{Credential: in.key.value(c), CredentialOrigins: f.origins, Tenant: f.tenant}
	mode := cmp.Or(f.verify, string(a2aclient.Verify))
	if f.verify == "" && f.trusted != "" {
		mode = string(a2aclient.Require)
	}
	switch cfg.Trust.Mode = a2aclient.Mode(mode); cfg.Trust.Mode {
	case a2aclient.Verify, a2aclient.Require, a2aclient.Off:
	default:
		return cfg, usagef("--verify-signature %s: want require, verify or off", mode)
	}
	if f.trusted != "" {
		b, err := os.ReadFile(f.trusted)
		if err == nil {
			cfg.Trust.Keys, err = a2aclient.ParseKeys(b)
		}
		if err != nil {
			return cfg, failf(exitData, "", "--trusted-key %s: %w", f.trusted, err)
		}
	}
	for _, o := range f.origins {
		if u, err := url.Parse(o); err != nil || egress.Origin(u) == "" {
			return cfg, usagef("--key-origin %s: want an origin like https://api.example.com", o)
		}
	}
	current, err := c.currentContext()
	if err != nil {
		return cfg, err
	}
	if cfg.Egress.RootCAs, err = c.roots(current); err != nil {
		return cfg, err
	}
	cfg.Egress.Policy, err = f.policy()
	return cfg, err
}

// policy allows what the user named: the host and port of the URL, and every port of it where it is an address or this machine, where no name can be turned elsewhere.
func (f farAgent) policy() (*egress.Policy, error) {
	text := f.address
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	items := f.egress
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return nil, usagef("--a2a %s: want an http or https URL", f.address)
	}
	switch a, err := netip.ParseAddr(u.Hostname()); {
	case u.Hostname() == "localhost" || err == nil && a.IsLoopback():
		items = append(items, "loopback")
	case err == nil:
		items = append(items, a.String())
	}
	p, err := egress.ParsePolicy(items...)
	if err != nil {
		return nil, usagef("--egress-allow: %w", err)
	}
	p = p.WithURL(text)
	if !strings.Contains(f.address, "://") {
		p = p.WithURL("https" + strings.TrimPrefix(text, "http"))
	}
	return p, nil
}

func signatureText(v a2aclient.Verdict) string {
	if v.Verified {
		return "the card's signature is verified"
	}
	return v.Why
}

// signatureWord is the signature in a document.
func signatureWord(v a2aclient.Verdict) string {
	switch {
	case v.Verified:
		return "verified"
	case v.Signed:
		return "unverified"
	default:
		return "none"
	}
}

// failed gives an error its way out.
func (f farAgent) failed(err error) error {
	switch errs.KindOf(err) {
	case errs.Unauthenticated:
		return failf(exitPermission, "give the agent's key by AGENTCTL_AGENT_KEY or --key; --key-origin where its interface isn't at the card's origin", "%s: %w", f.address, err)
	case errs.Denied: // logging in at the control plane doesn't help
		return failf(exitPermission, "", "%s: %w", f.address, err)
	case errs.Invalid, errs.Unsupported: // what is there, not how it was asked
		return failf(exitFailure, "", "%s: %w", f.address, err)
	default:
		return fmt.Errorf("%s: %w", f.address, err)
	}
}

// farBroken ends a wait that has no answer. Who stops it ends the task, too; a task that goes on is named.
func (c *cli) farBroken(ctx context.Context, agent *a2aclient.Agent, f farAgent, task string, err error) error {
	hint := ""
	if task != "" {
		hint = "the task goes on; see it with agentctl invoke --a2a " + f.address + " --task " + shellWord(task)
	}
	switch {
	case ctx.Err() != nil && task != "":
		if _, cancelErr := agent.CancelNow(ctx, task); cancelErr != nil {
			return failf(exitFailure, hint, "stopped waiting for task %s, which could not be canceled: %w", task, cancelErr)
		}
		return failf(exitFailure, "", "task %s is canceled", task)
	case ctx.Err() != nil:
		return failf(exitFailure, "", "stopped waiting; the agent may have got the message")
	case errors.Is(err, context.DeadlineExceeded):
		return failf(exitTimeout, hint, "%s: %w", f.address, err)
	}
	err = f.failed(err)
	var lost *a2aclient.LostError
	if errors.As(err, &lost) {
		return failf(exitCode(err), hint, "%w", err)
	}
	return err
}

// farPrinter shows what becomes of a message: data on stdout, progress on stderr.
type farPrinter struct {
	cli   *cli
	in    invocation
	task  string
	state pb.TaskState
	shown map[string]*strings.Builder // of an artifact: what of its text was printed
	open  string                      // the artifact that was printed last
	last  a2aclient.Event
	any   bool
}

func (p *farPrinter) event(ev a2aclient.Event) error {
	p.last, p.any, p.task = ev, true, ev.Task.GetId()
	if p.in.stream && p.in.out.machine() {
		b, err := a2a.Marshal(ev.Update)
		if err != nil {
			return err
		}
		return printLine(p.cli.env.Stdout, b)
	}
	if ev.Task == nil {
		return nil
	}
	if s := ev.Task.GetStatus().GetState(); s != p.state && !p.cli.flags.quiet {
		p.cli.note("task %s: %s", p.task, stateWord(s))
	}
	p.state = ev.Task.GetStatus().GetState()
	if p.in.stream {
		p.stream(ev)
	}
	return nil
}

// stream prints what is new in the artifacts that an event is about.
func (p *farPrinter) stream(ev a2aclient.Event) {
	about := ev.Update.GetArtifactUpdate()
	for _, a := range ev.Task.GetArtifacts() {
		id := a.GetArtifactId()
		if ev.Update.GetTask() == nil && (about == nil || about.GetArtifact().GetArtifactId() != id) {
			continue
		}
		shown := p.shown[id]
		if shown == nil {
			shown = &strings.Builder{}
			p.shown[id] = shown
		}
		var fresh string
		if about != nil && about.GetAppend() && shown.Len() > 0 {
			fresh = partsText(about.GetArtifact().GetParts())
		} else {
			whole := partsText(a.GetParts())
			rest, same := strings.CutPrefix(whole, shown.String())
			if !same { // told anew, otherwise than before
				shown.Reset()
				p.put(id, "\n")
				rest = whole
			}
			fresh = rest
		}
		shown.WriteString(fresh)
		p.put(id, fresh)
	}
}

// put prints a piece of an artifact's text.
func (p *farPrinter) put(id, text string) {
	if text == "" {
		return
	}
	if p.open != "" && p.open != id {
		_, _ = fmt.Fprintln(p.cli.env.Stdout)
	}
	p.open = id
	_, _ = fmt.Fprint(p.cli.env.Stdout, p.cli.spoken(text))
}

// end prints the outcome and gives the exit code.
func (p *farPrinter) end(agent *a2aclient.Agent, f farAgent) error {
	c, t := p.cli, p.last.Task
	if !p.any {
		return failf(exitFailure, "", "%s: the agent answered nothing", f.address)
	}
	said := partsText(t.GetStatus().GetMessage().GetParts())
	var err error
	switch {
	case p.in.stream && p.in.out.machine():
	case p.in.out.machine():
		err = p.document(agent)
	case t == nil:
		_, err = fmt.Fprintln(c.env.Stdout, c.spoken(partsText(p.last.Update.GetMessage().GetParts())))
	case p.in.stream:
		if p.open != "" {
			_, err = fmt.Fprintln(c.env.Stdout)
		}
		p.say(said)
	default:
		for _, a := range t.GetArtifacts() {
			_, err = fmt.Fprintln(c.env.Stdout, c.spoken(partsText(a.GetParts())))
		}
		p.say(said)
	}
	if err != nil || t == nil {
		return err
	}
	switch s := t.GetStatus().GetState(); {
	case a2aclient.Interrupted(s):
		what := `-m "your answer"`
		if s == pb.TaskState_TASK_STATE_AUTH_REQUIRED {
			what = `-m "done", once you did what it asks for`
		}
		c.note("the agent waits; go on with: agentctl invoke --a2a %s --task %s %s", f.address, shellWord(t.GetId()), what)
		return nil
	case s == pb.TaskState_TASK_STATE_COMPLETED:
		return nil
	default:
		return failf(exitFailure, "", "task %s is %s%s", t.GetId(), stateWord(s), after(said))
	}
}

// say prints the message of a status, where it isn't that of a failure.
func (p *farPrinter) say(text string) {
	s := p.last.Task.GetStatus().GetState()
	if text != "" && (s == pb.TaskState_TASK_STATE_COMPLETED || a2aclient.Interrupted(s)) {
		_, _ = fmt.Fprintln(p.cli.env.Stdout, p.cli.spoken(text))
	}
}

func after(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

func (p *farPrinter) document(agent *a2aclient.Agent) error {
	face := agent.Interface()
	doc := farDoc{Agent: agent.Card().GetName(), URL: face.GetUrl(), Binding: face.GetProtocolBinding(), Signature: signatureWord(agent.Signature())}
	var err error
	if m := p.last.Update.GetMessage(); p.last.Task == nil {
		doc.Context, doc.Text = m.GetContextId(), partsText(m.GetParts())
		doc.Result, err = a2a.Marshal(m)
	} else {
		t := p.last.Task
		doc.Task, doc.Context, doc.State = t.GetId(), t.GetContextId(), t.GetStatus().GetState().String()
		var texts []string
		for _, a := range t.GetArtifacts() {
			texts = append(texts, partsText(a.GetParts()))
		}
		if said := partsText(t.GetStatus().GetMessage().GetParts()); said != "" {
			texts = append(texts, said)
		}
		doc.Text = strings.Join(texts, "\n")
		doc.Result, err = a2a.Marshal(t)
	}
	if err != nil {
		return err
	}
	return printDoc(p.cli.env.Stdout, p.in.out, doc)
}

// stateWord gives a state as people read it.
func stateWord(s pb.TaskState) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(s.String(), "TASK_STATE_"), "_", " "))
}

// partsText gives parts as people read them: texts as they are, the rest described.
func partsText(parts []*pb.Part) string {
	var b strings.Builder
	for _, p := range parts {
		switch {
		case p.GetData() != nil:
			j, err := a2a.Marshal(p.GetData())
			if err == nil {
				b.Write(j)
			}
		case p.GetUrl() != "":
			_, _ = fmt.Fprintf(&b, "[%s %s]", cmp.Or(p.GetFilename(), "file"), p.GetUrl())
		case len(p.GetRaw()) > 0:
			_, _ = fmt.Fprintf(&b, "[%s, %d bytes of %s]", cmp.Or(p.GetFilename(), "file"), len(p.GetRaw()), cmp.Or(p.GetMediaType(), "unknown kind"))
		default:
			b.WriteString(p.GetText())
		}
	}
	return b.String()
}

// spoken gives an agent's text as a terminal may have it: agents repeat what others told them, and that must not steer the terminal. What isn't read by a
// terminal stays as it came.
func (c *cli) spoken(text string) string {
	if !isTTY(c.env.Stdout) {
		return text
	}
	return prose(text)
}

// shellWord gives what another side named such that it is one word of a command that a person copies.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:/@", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
