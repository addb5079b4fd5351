package e2e

import (
	"context"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/internal/scriptmodel"
	"github.com/agentry/agentry/test/harness"
)

// The hot update: every update changes prompt, temperature, tool set and one header together, and all four carry one number.
const (
	toolNumbers    = 25 // tools n0..n24: the tool set carries the number modulo this
	updateInterval = 190 * time.Millisecond
	askInterval    = 20 * time.Millisecond
)

// hotScript asks for the one offered tool with the request's id, then answers; every third request streams for up to 2 s.
const hotScript = `
rules:
  - name: slow end
    when: {user: "/slow req (\\d+)/", toolResult: true}
    reply:
      text: "done {{1}} one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
      pace: {delay: 180ms, chunk: 8}
  - name: end
    when: {user: "/req (\\d+)/", toolResult: true}
    reply: {text: "done {{1}}"}
  - name: begin
    when: {user: "/req (\\d+)/"}
    reply: {toolCalls: [{name: "*", arguments: {q: "{{1}}"}}]}
`

// hotSet is the spec that carries number k.
func hotSet(k int, servers map[string]string) harness.Files {
	server := "numbers-a"
	if (k/5)%2 == 1 {
		server = "numbers-b" // every 5th update replaces the MCP server
	}
	files := harness.Files{
		"hot/agent-base.json":  `{"promptKey": "hot", "maxIterations": 4}`,
		"hot/model.json":       fmt.Sprintf(`{"model": "scripted", "temperature": %v}`, temperatureOf(k)),
		"hot/mcp-servers.json": fmt.Sprintf(`{"mcpServers": [{"mcpServerName": %q, "headers": {"X-Number": "%d"}, "tools": {"allow": ["n%d"]}}]}`, server, k, k%toolNumbers),
		"prompts/hot.json":     fmt.Sprintf(`{"promptKey": "hot", "version": "1.0.%d", "template": "number %d"}`, k, k),
	}
	for name, url := range servers {
		files["mcp/"+name+".json"] = fmt.Sprintf(`{"name": %q, "endpoint": %q, "parameters": {"headers": {"X-Number": {"required": true, "secret": false}}}}`, name, url)
	}
	return files
}

func temperatureOf(k int) float64 { return float64(k) / 1000 }

func TestHotUpdatesNeverFailOrMixARequest(t *testing.T) {
	updates := 100
	if os.Getenv("AGENTRY_SOAK") != "" {
		updates = 1000
	}
	w := newWorld(t, hotScript)
	servers := map[string]string{}
	stubs := map[string]*harness.MCPStub{}
	for _, name := range []string{"numbers-a", "numbers-b"} {
		var tools []string
		for n := range toolNumbers {
			tools = append(tools, fmt.Sprintf("n%d", n))
		}
		stubs[name] = harness.NewMCPStub(name, tools...)
		t.Cleanup(stubs[name].Close)
		servers[name] = stubs[name].URL
	}
	w.apply(t, hotSet(0, servers))
	a := w.agent(t, "hot")
	applied := w.followApplied(t, "hot")

	seen := w.collectSeen(t)
	ctx, stop := context.WithCancel(t.Context())
	load := startLoad(ctx, a)
	tick := time.NewTicker(updateInterval)
	defer tick.Stop()
	began := time.Now()
	for k := 1; k <= updates; k++ {
		<-tick.C
		w.apply(t, hotSet(k, servers))
	}
	took := time.Since(began)
	if rate := float64(updates) / took.Seconds(); rate < 5 {
		t.Errorf("%.1f updates per second, want at least 5", rate)
	}
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		st, err := w.Status(ctx, w.cp, "hot")
		if err != nil {
			return err
		}
		if st.Condition != "Synced" || st.Revision.Stable != int64(updates+1) {
			return fmt.Errorf("status %+v", st)
		}
		return nil
	})
	stop()
	asked, failures := load.wait()
	for _, f := range failures {
		t.Errorf("failed request: %v", f)
	}
	if want := int(took / askInterval * 9 / 10); asked < want {
		t.Errorf("%d requests in %s, want about 50 per second", asked, took)
	}
	distinct := applied()
	if distinct < (updates+1)*95/100 {
		t.Errorf("%d distinct configs reported APPLIED of %d, want 95 %%", distinct, updates+1)
	}
	calls := append(stubs["numbers-a"].Calls(), stubs["numbers-b"].Calls()...)
	judged := judge(t, seen(), calls)
	if judged < asked {
		t.Errorf("%d requests could be judged by the stubs' logs, %d were asked", judged, asked)
	}
	t.Logf("%d updates in %s, %d requests, %d judged, %d distinct configs applied", updates, took.Round(time.Millisecond), asked, judged, distinct)
}

// followApplied counts the distinct configs that instances report APPLIED from now on.
func (w *world) followApplied(t *testing.T, agent string) func() int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := w.api.Status.WatchEvents(ctx, connect.NewRequest(&releasev1.WatchEventsRequest{Agent: agent, Follow: true}))
	if err != nil {
		t.Fatal(err)
	}
	configs := map[string]bool{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for stream.Receive() {
			if e := stream.Msg().GetEvent(); e.GetType() == "applied" {
				configs[e.GetConfig()] = true
			}
		}
	}()
	return func() int {
		cancel()
		<-done
		return len(configs)
	}
}

// collectSeen gathers what the scripted model server sees, which remembers the newest 2,000 requests only.
func (w *world) collectSeen(t *testing.T) func() []scriptmodel.Seen {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all []scriptmodel.Seen
	var last int64
	gather := func() {
		for _, s := range w.model.Requests() {
			if s.Seq > last {
				all, last = append(all, s), s.Seq
			}
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				gather()
			}
		}
	}()
	return func() []scriptmodel.Seen {
		cancel()
		<-done
		gather()
		return all
	}
}

// load asks 50 requests per second until its context ends.
type load struct {
	wg       sync.WaitGroup
	mu       sync.Mutex // guards the rest
	asked    int
	failures []error
}

func startLoad(ctx context.Context, a *harness.Agent) *load {
	l := &load{}
	l.wg.Go(func() {
		tick := time.NewTicker(askInterval)
		defer tick.Stop()
		for id := 1; ; id++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			l.wg.Go(func() { l.ask(context.WithoutCancel(ctx), a, id) })
		}
	})
	return l
}

func (l *load) ask(ctx context.Context, a *harness.Agent, id int) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var ans harness.Answer
	var err error
	if id%3 == 0 {
		ans, err = a.ChatStream(ctx, "", fmt.Sprintf("slow req %d", id), nil)
	} else {
		ans, err = a.Chat(ctx, "", fmt.Sprintf("req %d", id))
	}
	if err == nil && !strings.HasPrefix(ans.Text, fmt.Sprintf("done %d", id)) {
		err = fmt.Errorf("request %d was answered %q", id, ans.Text)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	if err != nil {
		l.failures = append(l.failures, fmt.Errorf("request %d: %w", id, err))
	}
}

func (l *load) wait() (int, []error) {
	l.wg.Wait()
	return l.asked, l.failures
}

var (
	requestID    = regexp.MustCompile(`req (\d+)`)
	promptNumber = regexp.MustCompile(`number (\d+)`)
)

// judge joins what the stubs saw by request id and answers how many requests it could judge. Every model call of a request carries
// prompt, temperature and tool set; every tool call carries header and tool name: all must be of one number.
func judge(t *testing.T, requests []scriptmodel.Seen, calls []harness.MCPCall) int {
	t.Helper()
	numbers := map[string]int{}
	for _, seen := range requests {
		id, prompt := requestID.FindStringSubmatch(seen.User), promptNumber.FindStringSubmatch(seen.System)
		if id == nil || prompt == nil || seen.Temperature == nil {
			t.Errorf("the scripted model server saw user %q, system %q, temperature %v", seen.User, seen.System, seen.Temperature)
			continue
		}
		k, _ := strconv.Atoi(prompt[1])
		if math.Abs(*seen.Temperature-temperatureOf(k)) > 1e-9 {
			t.Errorf("mixed: prompt of %d with temperature %v", k, *seen.Temperature)
		}
		if names := seen.ToolNames(); len(names) != 1 || !strings.HasSuffix(names[0], fmt.Sprintf("__n%d", k%toolNumbers)) {
			t.Errorf("mixed: prompt of %d with tools %v", k, names)
		}
		if before, ok := numbers[id[1]]; ok && before != k {
			t.Errorf("mixed: request %s began on %d and went on with %d", id[1], before, k)
		}
		numbers[id[1]] = k
	}
	judged := 0
	for _, call := range calls {
		id, _ := call.Args["q"].(string)
		k, ok := numbers[id]
		if !ok {
			t.Errorf("a tool call for request %q that no model asked for", id)
			continue
		}
		if got := call.Headers.Get("X-Number"); got != strconv.Itoa(k) {
			t.Errorf("mixed: request %s on %d sent header X-Number %s", id, k, got)
		}
		if want := fmt.Sprintf("n%d", k%toolNumbers); call.Tool != want {
			t.Errorf("mixed: request %s on %d called %s, want %s", id, k, call.Tool, want)
		}
		judged++
	}
	return judged
}
