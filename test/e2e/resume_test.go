package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/test/harness"
)

// wide is an agent of 8 resources: agent, prompt and 6 MCP entries.
func wide(promptVersion int) harness.Files {
	files := harness.Files{
		"wide/agent-base.json": `{"promptKey": "wide"}`,
		"wide/model.json":      `{"model": "scripted"}`,
		"prompts/wide.json":    fmt.Sprintf(`{"promptKey": "wide", "version": "1.0.%d", "template": "prompt %d"}`, promptVersion, promptVersion),
	}
	var refs []string
	for i := range 6 {
		files[fmt.Sprintf("mcp/m%d.json", i)] = fmt.Sprintf(`{"name": "m%d", "endpoint": "http://127.0.0.1:9/mcp"}`, i)
		refs = append(refs, fmt.Sprintf(`{"mcpServerName": "m%d"}`, i))
	}
	files["wide/mcp-servers.json"] = `{"mcpServers": [` + strings.Join(refs, ", ") + `]}`
	return files
}

// Nothing changed: no content. One of 8 resources changed: that one only. And content is marshalled once however many ask.
func TestResumeSendsOnlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	const instances = 10
	w.apply(t, wide(0))
	clients := make([]*harness.PushClient, instances)
	hellos := make([]*pushv1.Hello, instances)
	var err error
	for i := range clients {
		hellos[i] = &pushv1.Hello{Namespace: "default", Agent: "wide", Instance: fmt.Sprintf("raw-%d", i), AgentdVersion: "test"}
		if clients[i], err = w.cp.DialPush(t.Context(), hellos[i]); err != nil {
			t.Fatal(err)
		}
		s, content, err := clients[i].NextSnapshot(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if len(content.GetResources()) != 8 || len(content.GetManifest()) != 8 {
			t.Fatalf("the first snapshot has %d resources and %d lines, want 8", len(content.GetResources()), len(content.GetManifest()))
		}
		if err := clients[i].Report(applied(s)); err != nil {
			t.Fatal(err)
		}
		hellos[i].Running, hellos[i].Held, hellos[i].Phase = s.GetToken(), content.GetManifest(), pushv1.Phase_PHASE_APPLIED
	}
	w.settled(t, "wide")
	bytesBefore, marshalsBefore := w.counter(t, "agentry_push_content_bytes_total"), w.counter(t, "agentry_push_marshals_total")

	// All reconnect, nothing changed.
	for i, c := range clients {
		c.Close()
		if clients[i], err = w.cp.DialPush(t.Context(), hellos[i]); err != nil {
			t.Fatal(err)
		}
		if err := wantCurrent(clients[i]); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.counter(t, "agentry_push_content_bytes_total") - bytesBefore; got != 0 {
		t.Errorf("%v bytes of content sent on reconnect, want 0", got)
	}
	if got := w.counter(t, "agentry_push_marshals_total") - marshalsBefore; got != 0 {
		t.Errorf("%v marshals on reconnect, want 0", got)
	}

	// One of 8 changed.
	w.apply(t, wide(1))
	for _, c := range clients {
		_, content, err := c.NextSnapshot(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if r := content.GetResources(); len(r) != 1 || r[0].GetKind() != "prompt" || len(content.GetManifest()) != 8 {
			t.Errorf("sent %d resources (%v) and %d lines, want the prompt alone and 8 lines", len(r), r, len(content.GetManifest()))
		}
		c.Close()
	}
	if got := w.counter(t, "agentry_push_marshals_total") - marshalsBefore; got != 1 {
		t.Errorf("%v marshals for one change to %d instances, want 1: the number of distinct contents", got, instances)
	}
}

func applied(s *pushv1.Snapshot) *pushv1.Report {
	return &pushv1.Report{Nonce: s.GetNonce(), Phase: pushv1.Phase_PHASE_APPLIED, Desired: s.GetToken(), Running: s.GetToken()}
}

func wantCurrent(c *harness.PushClient) error {
	for {
		m, err := c.Next(5 * time.Second)
		if err != nil {
			return err
		}
		if m.GetSnapshot() != nil {
			return errors.New("got a snapshot, want Current")
		}
		if cur := m.GetCurrent(); cur != nil {
			return c.Report(&pushv1.Report{Nonce: cur.GetNonce(), Phase: pushv1.Phase_PHASE_APPLIED, Desired: cur.GetToken(), Running: cur.GetToken()})
		}
	}
}

func (w *world) counter(t *testing.T, name string) float64 {
	t.Helper()
	v, err := w.cp.Metric(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// settled waits until the agent is Synced.
func (w *world) settled(t *testing.T, agent string) {
	t.Helper()
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		st, err := w.Status(ctx, w.cp, agent)
		if err == nil && st.Condition != "Synced" {
			err = fmt.Errorf("status %+v", st)
		}
		return err
	})
}
