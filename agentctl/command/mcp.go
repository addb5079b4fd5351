package command

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
)

func (c *cli) mcpCmd() *cobra.Command {
	return group("mcp", "MCP servers and their tools",
		"  agentctl mcp tools nacos-mcp-tools\n  agentctl mcp disable nacos-mcp-tools RemoveConfig --message \"deleted a live config\"",
		c.listKindCmd(kindMCP), c.showKindCmd(kindMCP), c.mcpRegisterCmd(), c.mcpSwitchCmd(true), c.mcpSwitchCmd(false), c.mcpApproveCmd(), c.mcpToolsCmd(), c.mcpProbeCmd())
}

// registering is what mcp register was asked.
type registering struct {
	applying
	endpoints                                    []string
	version, transport, protocol, owner, about   string
	headers, queries, plainHeaders, plainQueries []string
	requiredHeaders, requiredQueries             []string
}

func (c *cli) mcpRegisterCmd() *cobra.Command {
	var r registering
	cmd := &cobra.Command{
		Use: "register NAME --endpoint URL", Short: "Write an MCP entry without a file",
		Example: "  agentctl mcp register nacos-mcp-tools --endpoint http://127.0.0.1:8900/mcp\n  agentctl mcp register gaode --endpoint https://example.com/mcp --query key --require-query key",
		Long: `Does what apply does with a file mcp/NAME.json: the same entry again is unchanged, another one becomes its next version. --header and
--query declare parameters that agents give values for; every value is secret unless --plain-header or --plain-query names it.`,
		Args: args(1, 1), ValidArgsFunction: c.completer(kindMCP),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := r.out.check(); err != nil {
				return err
			}
			if len(r.endpoints) == 0 {
				return failf(exitUsage, "agentctl mcp register "+names[0]+" --endpoint http://HOST/mcp", "an MCP entry needs an endpoint")
			}
			return c.register(cmd.Context(), r, names[0])
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&r.endpoints, "endpoint", nil, "URL of the MCP endpoint; may be repeated")
	f.StringVar(&r.version, "entry-version", "", "version of the entry (default: the next one, if anything differs)")
	f.StringVar(&r.transport, "transport", "", "streamable-http (default), sse or stdio")
	f.StringVar(&r.protocol, "protocol-version", "", "pin the MCP protocol version")
	f.StringVar(&r.owner, "owner", "", "who answers for it")
	f.StringVar(&r.about, "description", "", "what it is for")
	f.StringArrayVar(&r.headers, "header", nil, "a header that agents may give a value for; may be repeated")
	f.StringArrayVar(&r.queries, "query", nil, "a query parameter that agents may give a value for; may be repeated")
	f.StringArrayVar(&r.requiredHeaders, "require-header", nil, "a header that agents must give a value for")
	f.StringArrayVar(&r.requiredQueries, "require-query", nil, "a query parameter that agents must give a value for")
	f.StringArrayVar(&r.plainHeaders, "plain-header", nil, "a header whose value is no secret")
	f.StringArrayVar(&r.plainQueries, "plain-query", nil, "a query parameter whose value is no secret")
	r.m.bindWithout(cmd)
	r.out.bind(cmd)
	return cmd
}

// file gives the entry as a file of a set.
func (r registering) file(name string) ([]byte, error) {
	entry := map[string]any{"name": name}
	for key, text := range map[string]string{"version": r.version, "transport": r.transport, "protocolVersion": r.protocol, "owner": r.owner, "description": r.about} {
		if text != "" {
			entry[key] = text
		}
	}
	if len(r.endpoints) == 1 {
		entry["endpoint"] = r.endpoints[0]
	} else {
		var all []map[string]any
		for _, u := range r.endpoints {
			all = append(all, map[string]any{"url": u})
		}
		entry["endpoints"] = all
	}
	parameters := map[string]any{}
	for section, names := range map[string][3][]string{
		"headers": {r.headers, r.requiredHeaders, r.plainHeaders}, "queryParams": {r.queries, r.requiredQueries, r.plainQueries},
	} {
		declared := map[string]any{}
		for _, n := range slices.Concat(names[0], names[1], names[2]) {
			p := map[string]any{}
			if slices.Contains(names[1], n) {
				p["required"] = true
			}
			if slices.Contains(names[2], n) {
				p["secret"] = false
			}
			declared[n] = p
		}
		if len(declared) > 0 {
			parameters[section] = declared
		}
	}
	if len(parameters) > 0 {
		entry["parameters"] = parameters
	}
	return json.Marshal(entry)
}

func (c *cli) register(ctx context.Context, r registering, name string) error {
	dry, err := r.m.dry()
	if err != nil {
		return err
	}
	content, err := r.file(name)
	if err != nil {
		return err
	}
	cl, err := c.connect()
	if err != nil {
		return err
	}
	resp, err := cl.spec.Apply(ctx, connect.NewRequest(&specv1.ApplyRequest{
		Namespace: cl.namespace, DryRun: dry, Message: r.m.message, Files: []*specv1.File{{Path: "mcp/" + name + ".json", Content: content}},
	}))
	if faults := faultsOf(err); len(faults) > 0 { // of flags, not of a file
		var texts []string
		for _, f := range faults {
			texts = append(texts, strings.TrimPrefix(f.Path+" "+f.Message, " "))
		}
		return failf(exitUsage, faults[0].Hint, "register %s: %s", name, strings.Join(texts, "; "))
	}
	if err != nil {
		return fmt.Errorf("register %s: %w", name, err)
	}
	doc := applyDoc{Results: []resultDoc{}, Notes: list(resp.Msg.GetNotes())}
	for _, x := range resp.Msg.GetResults() {
		doc.Results = append(doc.Results, resultDoc{Kind: x.GetKind(), Name: x.GetName(), Namespace: x.GetNamespace(), Revision: x.GetRevision(), Action: x.GetAction()})
	}
	return c.printApplied(r.out, doc, nil, resp.Msg.GetDiffs(), dry)
}

// switchDoc is what enable or disable did.
type switchDoc struct {
	Server        string   `json:"server"`
	Namespace     string   `json:"namespace"`
	Tool          string   `json:"tool"` // "": the whole server
	Enabled       bool     `json:"enabled"`
	Changed       bool     `json:"changed"`
	Agents        []string `json:"agents"`
	Notes         []string `json:"notes"`
	StoreRevision int64    `json:"storeRevision"`
	DryRun        bool     `json:"dryRun"`
}

func (c *cli) mcpSwitchCmd(on bool) *cobra.Command {
	var out output
	var m mutation
	word, short := "disable", "Switch a server or one tool off, for calls of running requests too"
	if on {
		word, short = "enable", "Switch a server or one tool on again"
	}
	cmd := &cobra.Command{
		Use: word + " NAME [TOOL]", Short: short,
		Example: "  agentctl mcp " + word + " nacos-mcp-tools RemoveConfig\n  agentctl mcp " + word + " nacos-mcp-tools --message \"maintenance\"", Args: args(1, 2),
		ValidArgsFunction: c.completeTools(2),
		RunE: func(cmd *cobra.Command, words []string) error {
			cl, dry, err := c.begin(out, &m)
			if err != nil {
				return err
			}
			d := switchDoc{Server: words[0], Namespace: cl.namespace, Enabled: on, DryRun: dry}
			if len(words) == 2 {
				d.Tool = words[1]
			}
			resp, err := cl.mcp.SetEnabled(cmd.Context(), connect.NewRequest(&registryv1.SetEnabledRequest{
				Namespace: cl.namespace, Server: d.Server, Tool: d.Tool, Enabled: on, Message: m.message, CheckRevision: m.check(), DryRun: dry,
			}))
			if err != nil {
				return fmt.Errorf("%s %s: %w", word, strings.Join(words, " "), err)
			}
			r := resp.Msg
			d.Changed, d.Agents, d.Notes, d.StoreRevision = r.GetChanged(), list(r.GetAgents()), list(r.GetNotes()), r.GetStoreRevision()
			if !out.machine() {
				for _, n := range d.Notes {
					c.note("note: %s", n)
				}
			}
			what := word + "d"
			if !d.Changed {
				what = "is " + what + " already"
			}
			return c.printMove(out, d, strings.TrimSuffix("mcp/"+d.Server+"/"+d.Tool, "/"), what, d.Agents, dry)
		},
	}
	m.bindFor(cmd, "the entry's store revision is this one (storeRevision in -o json)")
	out.bind(cmd)
	return cmd
}

// approveDoc is what approve did.
type approveDoc struct {
	Server        string        `json:"server"`
	Namespace     string        `json:"namespace"`
	Tools         []approvedDoc `json:"tools"`
	Agents        []string      `json:"agents"`
	StoreRevision int64         `json:"storeRevision"`
	DryRun        bool          `json:"dryRun"`
}

type approvedDoc struct {
	Name    string   `json:"name"`
	Before  []string `json:"before"`
	Digests []string `json:"digests"`
}

func (c *cli) mcpApproveCmd() *cobra.Command {
	var out output
	var m mutation
	var digests []string
	cmd := &cobra.Command{
		Use: "approve NAME [TOOL...]", Short: "Pin the definitions of tools as they are now: a tool that changes is withdrawn",
		Example: "  agentctl mcp approve nacos-mcp-tools\n  agentctl mcp approve nacos-mcp-tools GetConfig --digest 3f2a91c4...",
		Long: `Without TOOL it pins every tool that instances, or the last probe, report now. Where they report several definitions of one tool, name
those to approve with --digest.`,
		Args: args(1, -1), ValidArgsFunction: c.completeTools(-1),
		RunE: func(cmd *cobra.Command, words []string) error {
			cl, dry, err := c.begin(out, &m)
			if err != nil {
				return err
			}
			resp, err := cl.mcp.ApproveTools(cmd.Context(), connect.NewRequest(&registryv1.ApproveToolsRequest{
				Namespace: cl.namespace, Server: words[0], Tools: words[1:], Digests: digests, Message: m.message, CheckRevision: m.check(), DryRun: dry,
			}))
			if err != nil {
				return fmt.Errorf("approve %s: %w", strings.Join(words, " "), err)
			}
			d := approveDoc{Server: words[0], Namespace: cl.namespace, Tools: []approvedDoc{}, Agents: list(resp.Msg.GetAgents()), StoreRevision: resp.Msg.GetStoreRevision(), DryRun: dry}
			changed := 0
			for _, t := range resp.Msg.GetTools() {
				d.Tools = append(d.Tools, approvedDoc{Name: t.GetName(), Before: list(t.GetBefore()), Digests: list(t.GetDigests())})
				if !slices.Equal(slices.Sorted(slices.Values(t.GetBefore())), t.GetDigests()) {
					changed++
				}
			}
			return c.printMove(out, d, "mcp/"+d.Server, fmt.Sprintf("approved: %d tools, %d of them newly", len(d.Tools), changed), d.Agents, dry)
		},
	}
	cmd.Flags().StringArrayVar(&digests, "digest", nil, "the definition to approve of the one TOOL, in hex; may be repeated")
	m.bindFor(cmd, "the entry's store revision is this one (storeRevision in -o json)")
	out.bind(cmd)
	return cmd
}

// toolsDoc is what mcp tools shows.
type toolsDoc struct {
	Server        string    `json:"server"`
	Namespace     string    `json:"namespace"`
	Enabled       bool      `json:"enabled"`
	Tools         []toolDoc `json:"tools"`
	Instances     []mcpUser `json:"instances"`
	Probe         *probeDoc `json:"probe"` // null: none
	StoreRevision int64     `json:"storeRevision"`
}

type toolDoc struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Enabled     bool            `json:"enabled"`
	State       string          `json:"state"`
	Approved    []string        `json:"approved"`
	Definitions []definitionDoc `json:"definitions"`
}

type definitionDoc struct {
	Digest string   `json:"digest"`
	SeenBy []string `json:"seenBy"`
}

type mcpUser struct {
	Instance string `json:"instance"`
	Healthy  bool   `json:"healthy"`
	Message  string `json:"message"`
}

// probeDoc is one look at a server from the control plane.
type probeDoc struct {
	Healthy         bool      `json:"healthy"`
	Code            string    `json:"code"`
	Message         string    `json:"message"`
	Endpoint        string    `json:"endpoint"`
	ProtocolVersion string    `json:"protocolVersion"`
	ServerName      string    `json:"serverName"`
	ServerVersion   string    `json:"serverVersion"`
	Version         string    `json:"version"`
	Agent           string    `json:"agent"`
	Time            time.Time `json:"time"`
	Took            float64   `json:"took"` // seconds
}

func toTools(in []*registryv1.McpTool) []toolDoc {
	out := []toolDoc{}
	for _, t := range in {
		d := toolDoc{Name: t.GetName(), Description: t.GetDescription(), Enabled: t.GetEnabled(), State: t.GetState(), Approved: list(t.GetApproved()), Definitions: []definitionDoc{}}
		for _, def := range t.GetDefinitions() {
			d.Definitions = append(d.Definitions, definitionDoc{Digest: def.GetDigest(), SeenBy: list(def.GetSeenBy())})
		}
		out = append(out, d)
	}
	return out
}

func toProbe(p *registryv1.ProbeResult) *probeDoc {
	if p == nil {
		return nil
	}
	return &probeDoc{
		Healthy: p.GetHealthy(), Code: p.GetCode(), Message: p.GetMessage(), Endpoint: p.GetEndpoint(), ProtocolVersion: p.GetProtocolVersion(),
		ServerName: p.GetServerName(), ServerVersion: p.GetServerVersion(), Version: p.GetVersion(), Agent: p.GetAgent(), Time: timeOf(p.GetTime()),
		Took: p.GetTook().AsDuration().Truncate(time.Millisecond).Seconds(),
	}
}

func toolTable(tools []toolDoc, empty string) table {
	t := table{head: []string{"TOOL", "ENABLED", "STATE", "SEEN BY", "DESCRIPTION", "DEFINITIONS"}, from: 5, empty: empty}
	for _, d := range tools {
		enabled := "no"
		if d.Enabled {
			enabled = "yes"
		}
		var seen, digests []string
		for _, def := range d.Definitions {
			seen = append(seen, def.SeenBy...)
			digests = append(digests, def.Digest)
		}
		who := strings.Join(seen[:min(len(seen), 2)], ", ")
		if n := len(seen) - 2; n > 0 {
			who += fmt.Sprintf(" and %d more", n)
		}
		about, _, _ := strings.Cut(d.Description, "\n")
		if r := []rune(about); len(r) > 60 {
			about = string(r[:59]) + "…"
		}
		t.add(d.Name, d.Name, enabled, d.State, dash(who), dash(about), dash(strings.Join(digests, ", ")))
	}
	return t
}

func (c *cli) mcpToolsCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "tools NAME", Short: "A server's tools: switched on or off, approved or changed, seen by whom",
		Example: "  agentctl mcp tools nacos-mcp-tools\n  agentctl mcp tools nacos-mcp-tools -o json", Args: args(1, 1),
		Long:              "STATE is approved, unpinned (usable, nobody approved it), changed (another definition was approved: withdrawn) or unseen.",
		ValidArgsFunction: c.completer(kindMCP),
		RunE: func(cmd *cobra.Command, names []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			resp, err := cl.mcp.ListTools(cmd.Context(), connect.NewRequest(&registryv1.ListToolsRequest{Namespace: cl.namespace, Server: names[0]}))
			if err != nil {
				return err
			}
			d := toolsDoc{
				Server: names[0], Namespace: cl.namespace, Enabled: resp.Msg.GetEnabled(), Tools: toTools(resp.Msg.GetTools()), Instances: []mcpUser{},
				Probe: toProbe(resp.Msg.GetProbe()), StoreRevision: resp.Msg.GetStoreRevision(),
			}
			for _, u := range resp.Msg.GetUsers() {
				d.Instances = append(d.Instances, mcpUser{Instance: u.GetInstance(), Healthy: u.GetHealthy(), Message: u.GetMessage()})
			}
			if !out.machine() {
				c.noteServer(d)
			}
			return c.print(out, d, toolTable(d.Tools, "Nobody reports tools of mcp/"+d.Server+" yet. Look at it: agentctl mcp probe "+d.Server))
		},
	}
	out.bind(cmd)
	return cmd
}

// noteServer tells what the table of tools doesn't.
func (c *cli) noteServer(d toolsDoc) {
	if !d.Enabled {
		c.note("The whole server is switched off (agentctl mcp enable %s).", d.Server)
	}
	for _, u := range d.Instances {
		if !u.Healthy {
			c.note("%s: can't use it: %s", u.Instance, u.Message)
		}
	}
	if p := d.Probe; p != nil && !p.Healthy {
		c.note("probe, %s: %s (%s)", c.ago(p.Time), p.Message, p.Code)
	}
}

// probingDoc is what mcp probe found.
type probingDoc struct {
	Server    string    `json:"server"`
	Namespace string    `json:"namespace"`
	Probe     *probeDoc `json:"probe"`
	Tools     []toolDoc `json:"tools"`
}

func (c *cli) mcpProbeCmd() *cobra.Command {
	var out output
	var agent string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "probe NAME", Short: "Let the control plane connect to a server and list its tools",
		Example: "  agentctl mcp probe nacos-mcp-tools\n  agentctl mcp probe gaode --as mse-nacos-helper",
		Long:    "Exit code 1 where the server can't be used. --as uses the headers and credentials with which that agent refers to the server.", Args: args(1, 1),
		ValidArgsFunction: c.completer(kindMCP),
		RunE: func(cmd *cobra.Command, names []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			resp, err := cl.mcp.Probe(cmd.Context(), connect.NewRequest(&registryv1.ProbeRequest{Namespace: cl.namespace, Server: names[0], Agent: agent, Timeout: durationpb.New(timeout)}))
			if err != nil {
				return fmt.Errorf("probe %s: %w", names[0], err)
			}
			d := probingDoc{Server: names[0], Namespace: cl.namespace, Probe: toProbe(resp.Msg.GetResult()), Tools: toTools(resp.Msg.GetTools())}
			if d.Probe == nil {
				d.Probe = &probeDoc{}
			}
			if !out.machine() && d.Probe.Healthy {
				c.note("%s answers at %s in %.3fs: %s %s, MCP %s, %d tools", names[0], d.Probe.Endpoint, d.Probe.Took, dash(d.Probe.ServerName), d.Probe.ServerVersion, d.Probe.ProtocolVersion, len(d.Tools))
			}
			if !d.Probe.Healthy && !out.machine() {
				c.note("error: %s at %s: %s (%s)", names[0], dash(d.Probe.Endpoint), d.Probe.Message, d.Probe.Code)
				return answered(exitNo)
			}
			if err := c.print(out, d, toolTable(d.Tools, "The server has no tools.")); err != nil || d.Probe.Healthy {
				return err
			}
			return answered(exitNo)
		},
	}
	cmd.Flags().StringVar(&agent, "as", "", "use this agent's headers and credentials")
	cmd.Flags().DurationVar(&timeout, "timeout", 20*time.Second, "give up after it (at most 20s)")
	_ = cmd.RegisterFlagCompletionFunc("as", c.completer(kindAgent))
	out.bind(cmd)
	return cmd
}

// completeTools offers servers, then the tools of the one chosen; most -1: any number of them.
func (c *cli) completeTools(most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, words []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(words) == 0 {
			return c.names(cmd.Context(), kindMCP), cobra.ShellCompDirectiveNoFileComp
		}
		cl, err := c.connect()
		if err != nil || (most >= 0 && len(words) >= most) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
		defer cancel()
		resp, err := cl.mcp.ListTools(ctx, connect.NewRequest(&registryv1.ListToolsRequest{Namespace: cl.namespace, Server: words[0]}))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var found []string
		for _, t := range resp.Msg.GetTools() {
			if !slices.Contains(words[1:], t.GetName()) {
				found = append(found, t.GetName())
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}
