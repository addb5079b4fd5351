package e2e

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
	"github.com/agentry/agentry/test/harness/badmcp"
)

// badScript has the model ask for the tool with the caller's words as its mode, and tell what the tool said.
const badScript = `rules:
  - {name: told, when: {toolResult: true}, reply: {text: "the tool: {{toolResult}}"}}
  - {name: plain, when: {user: hello}, reply: {text: "hello yourself"}}
  - {name: call, reply: {toolCalls: [{name: tools__do, arguments: {mode: "{{user}}"}}]}}
`

// What an MCP server does wrong is a result that the model is told, within the call's time and in bounded memory; nobody else notices, and
// once the server is well again it's used again.
func TestWhatAnMCPServerDoesWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, badScript)
	addr, err := harness.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	bad := badmcp.New(addr)
	if err := bad.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bad.Kill)
	set := helper(bad.URL, `"do"`)
	set["helper/mcp-servers.json"] = `{"mcpServers": [{"mcpServerName": "tools", "timeout": "1500ms"}]}`
	w.apply(t, set)
	a := w.agent(t, "helper")
	ask := func(text string) (harness.Answer, time.Duration) {
		t.Helper()
		began := time.Now()
		ans, err := a.Chat(t.Context(), "", text)
		if err != nil {
			t.Fatalf("%s: %v\n%s", text, err, a.Output())
		}
		return ans, time.Since(began)
	}
	well := func() {
		t.Helper()
		eventually(t, 30*time.Second, func(ctx context.Context) error {
			ans, err := a.Chat(ctx, "", badmcp.OK)
			if err == nil && ans.Text != "the tool: did ok" {
				err = fmt.Errorf("answer %q", ans.Text)
			}
			return err
		})
	}
	well()
	for _, tc := range []struct{ mode, says string }{
		{badmcp.Hang, "no answer in time"},
		{badmcp.Flood, "no answer in time"},
		{badmcp.Late, "no answer in time"},
		{badmcp.Huge, "larger than 8 MiB"},
	} {
		// Another caller goes on beside.
		var beside sync.WaitGroup
		beside.Go(func() {
			for range 5 {
				if ans, err := a.Chat(t.Context(), "", "hello"); err != nil || ans.Text != "hello yourself" {
					t.Errorf("%s: a caller beside: %q, %v", tc.mode, ans.Text, err)
				}
			}
		})
		ans, took := ask(tc.mode)
		beside.Wait()
		if !strings.Contains(ans.Text, tc.says) || len(ans.Text) > 1000 {
			t.Errorf("%s: %d bytes %.300q, want %q", tc.mode, len(ans.Text), ans.Text, tc.says)
		}
		if took > 15*time.Second {
			t.Errorf("%s took %s at a timeout of 1.5 s", tc.mode, took)
		}
		well() // a late answer is nobody else's
	}
	if rss := residentMB(t, a.PID()); rss > 200 {
		t.Errorf("%d MB resident after an answer of 100 MB", rss)
	}
}

// A server that ends with every call is used again each time it's back, and isn't called in a hot loop while it's gone.
func TestAnMCPServerThatExitsInALoop(t *testing.T) {
	t.Parallel()
	w := newWorld(t, badScript)
	addr, err := harness.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	bad := badmcp.New(addr)
	if err := bad.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bad.Kill() })
	w.apply(t, helper(bad.URL, `"do"`))
	a := w.agent(t, "helper")
	for round := range 5 {
		eventually(t, 60*time.Second, func(ctx context.Context) error { // connected again
			ans, err := a.Chat(ctx, "", badmcp.OK)
			if err == nil && ans.Text != "the tool: did ok" {
				err = fmt.Errorf("round %d: answer %q", round, ans.Text)
			}
			return err
		})
		ans, err := a.Chat(t.Context(), "", badmcp.Exit)
		if err != nil || !strings.Contains(ans.Text, "could not be called") && !strings.Contains(ans.Text, "lost") {
			t.Errorf("round %d: %q, %v", round, ans.Text, err)
		}
		<-bad.Done()
		if ans, err := a.Chat(t.Context(), "", "hello"); err != nil || ans.Text != "hello yourself" {
			t.Errorf("round %d: without the server: %q, %v", round, ans.Text, err)
		}
		if err := bad.Start(); err != nil {
			t.Fatal(err)
		}
	}
}

// residentMB is a process's resident memory.
func residentMB(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kb >> 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
