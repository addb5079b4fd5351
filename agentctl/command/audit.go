package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/agentry/agentry/gen/agentry/audit/v1"
	"github.com/agentry/agentry/internal/auditchain"
)

// auditDoc is one entry of the audit log.
type auditDoc struct {
	Seq        int64         `json:"seq"`
	Time       time.Time     `json:"time"`
	Type       string        `json:"type"`
	Actor      string        `json:"actor"`
	Method     string        `json:"method"`
	Permission string        `json:"permission"`
	Namespace  string        `json:"namespace"`
	Objects    []string      `json:"objects"`
	Changes    []auditChange `json:"changes"`
	Message    string        `json:"message"`
	RequestID  string        `json:"requestId"`
	Replica    string        `json:"replica"`
	Outcome    string        `json:"outcome"`
	Hash       string        `json:"hash"`
	Previous   string        `json:"previous"`
}

// auditChange is one changed path.
type auditChange struct {
	Object string `json:"object"`
	Path   string `json:"path"`
	Before string `json:"before"`
	After  string `json:"after"`
}

func toAudit(e *auditv1.Entry) auditDoc {
	d := auditDoc{
		Seq: e.GetSeq(), Time: timeOf(e.GetTime()), Type: e.GetType(), Actor: e.GetActor(), Method: e.GetMethod(), Permission: e.GetPermission(),
		Namespace: e.GetNamespace(), Objects: list(e.GetObjects()), Changes: []auditChange{}, Message: e.GetMessage(), RequestID: e.GetRequestId(),
		Replica: e.GetReplica(), Outcome: e.GetOutcome(), Hash: e.GetHash(), Previous: e.GetPrevious(),
	}
	for _, c := range e.GetChanges() {
		d.Changes = append(d.Changes, auditChange{Object: c.GetObject(), Path: c.GetPath(), Before: c.GetBefore(), After: c.GetAfter()})
	}
	return d
}

// cells are the columns of a table, the last three for -o wide.
func (d auditDoc) cells(at string) []string {
	method := d.Method[strings.LastIndex(d.Method, "/")+1:]
	return []string{itoa(d.Seq), at, d.Type, d.Actor, dash(method), dash(strings.Join(d.Objects, ",")), dash(d.Outcome), dash(d.Message), dash(d.Namespace), dash(d.RequestID)}
}

// auditing holds the flags of audit.
type auditing struct {
	out              output
	follow, all      bool
	since            time.Duration
	sinceSeq         int64
	actor, typ, what string
	limit            int
}

func (c *cli) auditCmd() *cobra.Command {
	var a auditing
	cmd := &cobra.Command{
		Use: "audit", Short: "Who changed what, who used which credential, who was turned away",
		Example: "  agentctl audit --since 1h\n  agentctl audit --object agent/mse-nacos-helper -o json\n  agentctl audit -f --type denied\n  agentctl audit verify", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.begin(a.out, nil)
			if err != nil {
				return err
			}
			if err := a.check(cmd.Flags().Changed); err != nil {
				return err
			}
			if a.follow {
				return c.followAudit(cmd, cl, a)
			}
			return c.listAudit(cmd, cl, a)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&a.follow, "follow", "f", false, "print every new entry (with -o json one a line)")
	f.Int64Var(&a.sinceSeq, "since-seq", 0, "with -f: go on after this number")
	f.BoolVarP(&a.all, "all-namespaces", "A", false, "of every namespace, and of the installation")
	f.DurationVar(&a.since, "since", 0, "only what is younger, such as 1h")
	f.StringVar(&a.actor, "actor", "", "only by this caller, such as user:ada@example.org")
	f.StringVar(&a.typ, "type", "", "change, credential_use, unauthenticated, denied or lost")
	f.StringVar(&a.what, "object", "", "only about this object, such as agent/mse-nacos-helper")
	f.IntVar(&a.limit, "limit", 100, "the most entries")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(auditTypes(), cobra.ShellCompDirectiveNoFileComp))
	a.out.bind(cmd)
	cmd.AddCommand(c.auditVerifyCmd())
	return cmd
}

func auditTypes() []string {
	return []string{"change", "credential_use", "unauthenticated", "denied", "lost"}
}

// check refuses what would count for nothing.
func (a auditing) check(given func(string) bool) error {
	switch {
	case a.typ != "" && !slices.Contains(auditTypes(), a.typ):
		return usagef("--type %q: %s", a.typ, strings.Join(auditTypes(), ", "))
	case a.limit < 1:
		return usagef("--limit %d: at least 1", a.limit)
	case a.since < 0 || a.sinceSeq < 0:
		return usagef("--since and --since-seq count from 0 up")
	case a.follow && (given("since") || given("limit")):
		return usagef("with -f, new entries are printed, from --since-seq on: --since and --limit have no meaning")
	case !a.follow && given("since-seq"):
		return usagef("--since-seq is for -f")
	}
	return nil
}

func (c *cli) listAudit(cmd *cobra.Command, cl *client, a auditing) error {
	req := &auditv1.ListRequest{Namespace: cl.namespace, AllNamespaces: a.all, Actor: a.actor, Type: a.typ, Object: a.what}
	if a.since > 0 {
		req.Since = timestamppb.New(c.now().Add(-a.since))
	}
	docs := []auditDoc{}
	t := table{head: []string{"SEQ", "TIME", "TYPE", "ACTOR", "METHOD", "OBJECTS", "OUTCOME", "MESSAGE", "NAMESPACE", "REQUEST"}, from: 8, empty: "No entries."}
	for len(docs) < a.limit {
		req.PageSize = int32(min(a.limit-len(docs), 500)) //nolint:gosec // G115: at most 500
		resp, err := cl.audit.List(cmd.Context(), connect.NewRequest(req))
		if err != nil {
			return err
		}
		for _, e := range resp.Msg.GetEntries() {
			d := toAudit(e)
			docs = append(docs, d)
			t.add("audit/"+itoa(d.Seq), d.cells(c.ago(d.Time))...)
		}
		if req.PageToken = resp.Msg.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	return c.print(a.out, docs, t)
}

func (c *cli) followAudit(cmd *cobra.Command, cl *client, a auditing) error {
	ctx := cmd.Context()
	since := a.sinceSeq
	if since == 0 && cl.servers.several() {
		// Where the first replica dies before it told anything, another one's "from now on" would leave out what was written between.
		var err error
		if since, err = newestAudit(ctx, cl, a.all); err != nil {
			return err
		}
	}
	open := func(ctx context.Context) (*connect.ServerStreamForClient[auditv1.WatchResponse], error) {
		return cl.audit.Watch(ctx, connect.NewRequest(&auditv1.WatchRequest{Namespace: cl.namespace, AllNamespaces: a.all, SinceSeq: since}))
	}
	return follow(ctx, cl, open, func(m *auditv1.WatchResponse) (bool, error) {
		d := toAudit(m.GetEntry())
		since = max(since, d.Seq)
		if !a.wants(d) {
			return false, nil
		}
		return false, c.printAudit(a.out, d)
	})
}

// newestAudit gives the number of the newest entry that the caller sees; 0: none.
func newestAudit(ctx context.Context, cl *client, all bool) (int64, error) {
	resp, err := cl.audit.List(ctx, connect.NewRequest(&auditv1.ListRequest{Namespace: cl.namespace, AllNamespaces: all, PageSize: 1}))
	if err != nil {
		return 0, err
	}
	var seq int64
	for _, e := range resp.Msg.GetEntries() {
		seq = max(seq, e.GetSeq())
	}
	return seq, nil
}

func (c *cli) printAudit(out output, d auditDoc) error {
	cells := d.cells(d.Time.Local().Format(time.TimeOnly))
	switch {
	case out == "json":
		return printLine(c.env.Stdout, d)
	case out.machine():
		return printDoc(c.env.Stdout, out, d)
	case out == "name" || c.flags.quiet:
		cells = []string{"audit/" + itoa(d.Seq)}
	case out != "wide":
		cells = cells[:8]
	}
	_, err := fmt.Fprintln(c.env.Stdout, oneLine(strings.Join(cells, "   ")))
	return err
}

// wants filters what a watch sends as List filters what it lists.
func (a auditing) wants(d auditDoc) bool {
	if (a.actor != "" && d.Actor != a.actor) || (a.typ != "" && d.Type != a.typ) {
		return false
	}
	if a.what == "" {
		return true
	}
	return slices.Contains(d.Objects, a.what)
}

// verifiedDoc is what verify found.
type verifiedDoc struct {
	Whole   bool   `json:"whole"`
	Entries int64  `json:"entries"`
	First   int64  `json:"first"`
	Last    int64  `json:"last"`
	Hash    string `json:"hash"`
	BadSeq  int64  `json:"badSeq"`
	Why     string `json:"why"`
}

func (c *cli) auditVerifyCmd() *cobra.Command {
	var out output
	var file string
	cmd := &cobra.Command{
		Use: "verify", Short: `Whether the log is whole: nothing changed, nothing missing; "no" is exit code 1`,
		Long: `Every entry's hash holds the one before, so a changed or missing entry shows. Keep the last hash that this prints elsewhere, or an audit
file: who can write to the store could chain everything anew, and only what lies elsewhere tells.`,
		Example: "  agentctl audit verify\n  agentctl audit verify --file audit.jsonl", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			var d verifiedDoc
			var err error
			if file != "" {
				d, err = verifyFile(file)
			} else {
				d, err = c.verifyServer(cmd)
			}
			if err != nil {
				return err
			}
			if out.machine() {
				err = printDoc(c.env.Stdout, out, d)
			} else {
				err = c.sayVerified(d)
			}
			if err == nil && !d.Whole {
				return answered(exitNo)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "verify an audit file instead of the control plane's window")
	out.bind(cmd)
	return cmd
}

func (c *cli) sayVerified(d verifiedDoc) error {
	var err error
	switch {
	case !d.Whole:
		_, err = fmt.Fprintf(c.env.Stdout, "not whole: entry %d: %s\n", d.BadSeq, d.Why)
	case d.Entries == 0:
		_, err = fmt.Fprintln(c.env.Stdout, "no entries yet")
	default:
		_, err = fmt.Fprintf(c.env.Stdout, "whole: entries %d to %d, the last with hash %s\n", d.First, d.Last, d.Hash)
	}
	return err
}

func (c *cli) verifyServer(cmd *cobra.Command) (verifiedDoc, error) {
	cl, err := c.connect()
	if err != nil {
		return verifiedDoc{}, err
	}
	ctx := cmd.Context()
	stream, err := cl.audit.Chain(ctx, connect.NewRequest(&auditv1.ChainRequest{}))
	if err != nil {
		return verifiedDoc{}, cl.caller.explain(err)
	}
	defer func() { _ = stream.Close() }()
	var v verifying
	var end auditchain.Point
	for stream.Receive() {
		m := stream.Msg()
		if v.chain == nil { // the first message says where the window begins and ends
			v.begin(auditchain.Point{Seq: m.GetAnchorSeq(), Hash: m.GetAnchor()})
			end = auditchain.Point{Seq: m.GetHeadSeq(), Hash: m.GetHash()}
			continue
		}
		if !v.next(auditchain.Link{Record: m.GetRecord(), Hash: m.GetHash()}) {
			return v.doc, nil
		}
	}
	if err := stream.Err(); err != nil {
		return verifiedDoc{}, cl.caller.explain(err)
	}
	if v.chain == nil {
		return verifiedDoc{}, failf(exitUnreachable, "ask again", "the control plane at %s ended the answer before it began", cl.server)
	}
	v.ends(end)
	return v.done(), nil
}

func verifyFile(path string) (verifiedDoc, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return verifiedDoc{}, failf(exitUsage, "name the file that the control plane writes with --audit-file", "%w", err)
	}
	defer func() { _ = f.Close() }()
	var v verifying
	lines := bufio.NewReaderSize(f, 64<<10)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return v.done(), nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return verifiedDoc{}, err
		}
		link, previous, seq, err := auditchain.ParseLine(line)
		if err != nil {
			return verifiedDoc{}, failf(exitData, "a line that was cut off by a crash is written again by the control plane at its next start", "%s:%d: %w", path, n, err)
		}
		if v.chain == nil {
			v.begin(auditchain.Point{Seq: seq - 1, Hash: previous})
		}
		if !v.next(link) {
			return v.doc, nil
		}
	}
}

// verifying takes links one by one.
type verifying struct {
	chain  *auditchain.Verifier
	doc    verifiedDoc
	broken bool
}

// begin says what the first link goes on from.
func (v *verifying) begin(from auditchain.Point) {
	if from.Seq == 0 { // the beginning of a log is known: what is said of it doesn't count
		from = auditchain.Point{}
	}
	v.chain = auditchain.NewVerifier(from)
	v.doc.First = from.Seq + 1
}

// next says whether the chain is whole so far.
func (v *verifying) next(l auditchain.Link) bool {
	if !v.holds(v.chain.Next(l)) {
		return false
	}
	v.doc.Entries++
	return true
}

// ends says where the chain must end.
func (v *verifying) ends(at auditchain.Point) {
	v.holds(v.chain.End(at))
}

func (v *verifying) holds(f *auditchain.Fault) bool {
	if f != nil {
		v.broken, v.doc.BadSeq, v.doc.Why = true, f.Seq, f.Why
	}
	return f == nil
}

func (v *verifying) done() verifiedDoc {
	v.doc.Whole = !v.broken
	if v.chain != nil {
		v.doc.Last, v.doc.Hash = v.chain.At().Seq, v.chain.At().Hash
	}
	return v.doc
}
