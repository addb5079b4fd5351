package command

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
)

// listDoc is a list of things at one store revision.
type listDoc struct {
	Items         []objectDoc `json:"items"`
	StoreRevision int64       `json:"storeRevision"`
}

// changeEvent is one line of get -w.
type changeEvent struct {
	Type          string     `json:"type"` // present, changed, deleted, bookmark
	StoreRevision int64      `json:"storeRevision"`
	Object        *objectDoc `json:"object"` // null for a bookmark
}

// getting holds what get and its short forms (prompt list, mcp list...) are asked.
type getting struct {
	out      output
	selector []string
	all      bool
	watch    bool
	since    int64
	sortBy   string
	limit    int
}

func (g *getting) bind(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVarP(&g.selector, "selector", "l", nil, "labels that must match, key=value (agents)")
	f.BoolVarP(&g.all, "all-namespaces", "A", false, "of every namespace")
	f.BoolVarP(&g.watch, "watch", "w", false, "go on: print every change (with -o json one event a line)")
	f.Int64Var(&g.since, "since-revision", 0, "with -w: begin after this store revision")
	f.StringVar(&g.sortBy, "sort-by", "name", "name, revision or updated")
	f.IntVar(&g.limit, "limit", 0, "at most so many; 0: all")
	g.out.bind(cmd)
}

func (g *getting) check() error {
	switch g.sortBy {
	case "name", "revision", "updated":
	default:
		return usagef("--sort-by %s: name, revision or updated", g.sortBy)
	}
	if g.limit < 0 {
		return usagef("--limit %d: not negative", g.limit)
	}
	for _, s := range g.selector {
		if !strings.Contains(s, "=") {
			return usagef("-l %s: key=value", s)
		}
	}
	return g.out.check()
}

func (c *cli) getCmd() *cobra.Command {
	var g getting
	cmd := &cobra.Command{
		Use: "get KIND [NAME...] | KIND/NAME[@VERSION]...", Short: "What is stored",
		Example: "  agentctl get agents\n  agentctl get prompt/mse-nacos-helper@3.0.11 -o yaml\n  agentctl get agents -o jsonpath='{.items[*].name}'", Args: args(1, -1),
		ValidArgsFunction: c.completer(""),
		RunE: func(cmd *cobra.Command, words []string) error {
			kind, refs, err := parseRefs(words)
			if err != nil {
				return err
			}
			return c.get(cmd.Context(), &g, kind, refs)
		},
	}
	g.bind(cmd)
	return cmd
}

func (c *cli) get(ctx context.Context, g *getting, kind string, refs []ref) error {
	if err := g.check(); err != nil {
		return err
	}
	cl, err := c.connect()
	if err != nil {
		return err
	}
	if g.watch {
		return c.watchObjects(ctx, cl, g, kind, refs)
	}
	doc := listDoc{Items: []objectDoc{}}
	if len(refs) == 0 {
		doc, err = cl.list(ctx, &specv1.ListRequest{Namespace: cl.namespace, AllNamespaces: g.all, Kind: kind, Selector: g.selector})
		if err != nil {
			return fmt.Errorf("list %s: %w", kind, err)
		}
	}
	for _, r := range refs {
		o, err := cl.object(ctx, r)
		if err != nil {
			return err
		}
		doc.Items = append(doc.Items, toObject(o))
	}
	if len(refs) == 0 {
		sortObjects(doc.Items, g.sortBy)
	}
	if g.limit > 0 && len(doc.Items) > g.limit {
		doc.Items = doc.Items[:g.limit]
	}
	if len(refs) == 1 {
		return c.print(g.out, doc.Items[0], c.objectTable(kind, cl.namespace, g.all, doc.Items))
	}
	t := c.objectTable(kind, cl.namespace, g.all, doc.Items)
	if len(g.selector) > 0 {
		t.empty = "Nothing has the labels " + strings.Join(g.selector, ", ") + "."
	}
	return c.print(g.out, doc, t)
}

// list reads all pages.
func (cl *client) list(ctx context.Context, req *specv1.ListRequest) (listDoc, error) {
	doc := listDoc{Items: []objectDoc{}}
	for {
		resp, err := cl.spec.List(ctx, connect.NewRequest(req))
		if err != nil {
			return doc, err
		}
		for _, o := range resp.Msg.GetObjects() {
			doc.Items = append(doc.Items, toObject(o))
		}
		doc.StoreRevision = resp.Msg.GetStoreRevision()
		if req.PageToken = resp.Msg.GetNextPageToken(); req.GetPageToken() == "" {
			return doc, nil
		}
	}
}

func (cl *client) object(ctx context.Context, r ref) (*specv1.Object, error) {
	resp, err := cl.spec.Get(ctx, connect.NewRequest(&specv1.GetRequest{Namespace: cl.namespace, Kind: r.kind, Name: r.name, Version: r.version}))
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", r, err)
	}
	return resp.Msg.GetObject(), nil
}

func sortObjects(items []objectDoc, by string) {
	slices.SortStableFunc(items, func(a, b objectDoc) int {
		switch by {
		case "revision":
			return cmp.Compare(b.Revision, a.Revision)
		case "updated":
			return b.Updated.Compare(a.Updated)
		default:
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
		}
	})
}

// objectTable shows things of one kind; hash, author and labels in the wide form.
func (c *cli) objectTable(kind, namespace string, all bool, items []objectDoc) table {
	plural := map[string]string{kindAgent: "agents", kindPrompt: "prompts", kindMCP: "MCP entries", kindCredential: "credentials"}[kind]
	way := " Apply a folder: agentctl apply -f DIR"
	if kind == kindCredential {
		way = " Make one: agentctl credential create NAME --from-file FILE"
	}
	t := table{empty: "No " + plural + " in namespace " + namespace + "." + way}
	if all {
		t.empty = "No " + plural + "." + way
		t.head = []string{"NAMESPACE"}
	}
	switch kind {
	case kindAgent:
		t.head = append(t.head, "NAME", "REVISION", "CONDITION", "UPDATED", "HASH", "BY", "LABELS")
	case kindCredential:
		t.head = append(t.head, "NAME", "VERSION", "UPDATED", "HASH", "BY", "LABELS")
	default:
		t.head = append(t.head, "NAME", "VERSION", "LABELS", "UPDATED", "HASH", "BY")
	}
	t.from = slices.Index(t.head, "HASH")
	for _, o := range items {
		var cells []string
		if all {
			cells = append(cells, o.Namespace)
		}
		name, labels, hash := o.Name, dash(strings.Join(o.Labels, ",")), dash(o.Hash)
		if len(hash) > 12 {
			hash = hash[:12]
		}
		if o.Deleted {
			name += " (deleted)"
		}
		switch kind {
		case kindAgent:
			cells = append(cells, name, itoa(o.Revision), dash(o.Condition), c.ago(o.Updated), hash, dash(o.UpdatedBy), labels)
		case kindCredential:
			cells = append(cells, name, itoa(o.Revision), c.ago(o.Updated), hash, dash(o.UpdatedBy), labels)
		default:
			cells = append(cells, name, dash(o.Version), labels, c.ago(o.Updated), hash, dash(o.UpdatedBy))
		}
		t.add(o.Kind+"/"+o.Name, cells...)
	}
	return t
}

// watchObjects prints what is there and every change until it is stopped.
func (c *cli) watchObjects(ctx context.Context, cl *client, g *getting, kind string, refs []ref) error {
	req := &specv1.WatchRequest{Namespace: cl.namespace, AllNamespaces: g.all, Kind: kind, SinceRevision: g.since}
	switch {
	case len(refs) == 1 && refs[0].version == "":
		req.Name = refs[0].name
	case len(refs) > 0:
		return usagef("-w watches all of a kind, or one thing without a version")
	}
	if len(g.selector) > 0 || g.limit > 0 {
		return usagef("-w goes without -l and --limit")
	}
	shown := map[string]int64{} // store revisions of what was printed, for what a watch that is taken up sends again
	open := func(ctx context.Context) (*connect.ServerStreamForClient[specv1.WatchResponse], error) {
		return cl.spec.Watch(ctx, connect.NewRequest(req))
	}
	return follow(ctx, cl, open, func(m *specv1.WatchResponse) (bool, error) {
		e := changeEvent{Type: m.GetType(), StoreRevision: m.GetStoreRevision()}
		if o := m.GetObject(); o != nil {
			d := toObject(o)
			e.Object = &d
			key := d.Kind + " " + d.Namespace + " " + d.Name
			if before, ok := shown[key]; ok && before >= e.StoreRevision && e.StoreRevision != 0 {
				return false, nil
			}
			shown[key] = e.StoreRevision
		}
		if e.Type != "present" { // from here on a watch can be taken up at the revision
			whole := e.StoreRevision
			if m.GetMore() {
				whole--
			}
			req.SinceRevision = max(req.GetSinceRevision(), whole)
		}
		return false, c.printChange(g.out, e)
	})
}

func (c *cli) printChange(out output, e changeEvent) error {
	switch {
	case out.machine():
		return printLine(c.env.Stdout, e)
	case e.Object == nil:
		return nil
	case out == "name" || c.flags.quiet:
		_, err := fmt.Fprintln(c.env.Stdout, e.Object.Kind+"/"+e.Object.Name)
		return err
	default:
		_, err := fmt.Fprintf(c.env.Stdout, "%-8s   %s/%s   %s   %s\n", e.Type, e.Object.Kind, e.Object.Name, first(e.Object.Version, itoa(e.Object.Revision)), dash(e.Object.Condition))
		return err
	}
}
