package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/internal/scriptmodel"
	"github.com/agentry/agentry/test/harness"
)

const taskScript = `rules:
  - {name: asks, when: {user: "/^ask/"}, reply: {toolCalls: [{name: ask_user, arguments: {question: "Which day?"}}]}}
  - {name: slow after the tool, when: {toolResult: "/./", user: "/^danger slow/"}, reply: {text: "never told", delay: 60s}}
  - {name: answered, when: {toolResult: "/./"}, reply: {text: "answer: {{toolResult}}"}}
  - {name: danger, when: {user: "/^danger/", tools: [alpha]}, reply: {toolCalls: [{name: alpha, arguments: {q: "{{user}}"}}]}}
  - {name: slow, when: {user: "/^slow/"}, reply: {text: "one two three four five six seven eight nine ten", delay: 300ms, pace: {chunk: 4, delay: 5s}}}
default: {text: "answer to {{user}}"}
`

// a2aTask is a task as HTTP and JSON show it.
type a2aTask struct {
	ID        string
	ContextID string `json:"contextId"`
	Status    a2aStatus
	Artifacts []struct {
		ArtifactID string `json:"artifactId"`
		Parts      []struct{ Text string }
	}
	History []json.RawMessage
}

type a2aStatus struct {
	State   string
	Message struct {
		Parts []struct {
			Text string
			Data json.RawMessage
		}
	}
}

// said gives the text of the status.
func (s a2aStatus) said() string {
	if len(s.Message.Parts) == 0 {
		return ""
	}
	return s.Message.Parts[0].Text
}

// text gives the artifacts' text.
func (t a2aTask) text() string {
	var b strings.Builder
	for _, a := range t.Artifacts {
		for _, p := range a.Parts {
			b.WriteString(p.Text)
		}
	}
	return b.String()
}

// a2aPost sends one JSON-RPC request of A2A 1.0.
func a2aPost(ctx context.Context, a *harness.Agent, method string, params any) (*http.Response, error) {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL()+"/a2a", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("A2a-Version", "1.0")
	return http.DefaultClient.Do(req)
}

// a2aCall performs an operation and decodes its result.
func a2aCall(ctx context.Context, a *harness.Agent, method string, params, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	resp, err := a2aPost(ctx, a, method, params)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var out struct {
		Result json.RawMessage
		Error  *struct {
			Code    int
			Message string
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return err
	}
	if out.Error != nil {
		return fmt.Errorf("%s: %d %s", method, out.Error.Code, out.Error.Message)
	}
	return json.Unmarshal(out.Result, into)
}

// a2aSend sends a message; the answer doesn't wait for the end of the task where now is set.
func a2aSend(t *testing.T, a *harness.Agent, taskID, words string, now bool) a2aTask {
	t.Helper()
	message := map[string]any{"messageId": words, "role": "ROLE_USER", "parts": []any{map[string]any{"text": words}}}
	if taskID != "" {
		message["taskId"] = taskID
	}
	var out struct{ Task a2aTask }
	if err := a2aCall(t.Context(), a, "SendMessage", map[string]any{"message": message, "configuration": map[string]any{"returnImmediately": now}}, &out); err != nil {
		t.Fatalf("%v\nagentd:\n%s", err, a.Output())
	}
	return out.Task
}

func a2aGet(ctx context.Context, a *harness.Agent, id string) (a2aTask, error) {
	var out a2aTask
	err := a2aCall(ctx, a, "GetTask", map[string]any{"id": id}, &out)
	return out, err
}

// a2aUntil waits for a task's state as an instance knows it.
func a2aUntil(t *testing.T, a *harness.Agent, id, state string, limit time.Duration) {
	t.Helper()
	eventually(t, limit, func(ctx context.Context) error {
		out, err := a2aGet(ctx, a, id)
		if err == nil && out.Status.State != "TASK_STATE_"+state {
			err = fmt.Errorf("the task is %s (%s), want %s", out.Status.State, out.Status.said(), state)
		}
		return err
	})
}

// a2aEvent is one event of a stream.
type a2aEvent struct {
	Task         *a2aTask
	StatusUpdate *struct{ Status a2aStatus }
	at           time.Time
}

// a2aSubscribe reads a task's stream. The channel is closed at its end.
func a2aSubscribe(t *testing.T, a *harness.Agent, id string) <-chan a2aEvent {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := a2aPost(ctx, a, "SubscribeToTask", map[string]any{"id": id}) //nolint:bodyclose // the reader closes it
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	out := make(chan a2aEvent, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(out)
		defer func() { _ = resp.Body.Close() }()
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok {
				continue
			}
			var answer struct{ Result a2aEvent }
			if json.Unmarshal([]byte(data), &answer) == nil {
				answer.Result.at = time.Now()
				out <- answer.Result
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return out
}

// a2aLast reads a stream to a status of the state.
func a2aLast(t *testing.T, events <-chan a2aEvent, state string, limit time.Duration) a2aEvent {
	t.Helper()
	over := time.After(limit)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatalf("the stream ended before %s", state)
			}
			if e.StatusUpdate != nil && e.StatusUpdate.Status.State == "TASK_STATE_"+state {
				return e
			}
		case <-over:
			t.Fatalf("no %s within %s", state, limit)
		}
	}
}

// twins are two instances of one agent that keep everything in one Redis.
func twins(t *testing.T, mcp string) (w *world, a, b *harness.Agent) {
	t.Helper()
	w = newWorld(t, taskScript)
	redis := harness.StartRedis(t, harness.RedisOptions{})
	set := harness.Files{
		"twin/agent-base.json": `{"promptKey": "twin", "expose": {"a2a": {"tools": ["ask_user"]}}}`,
		"twin/model.json":      `{"model": "m", "sendMetadata": true}`,
		"twin/memory.json":     fmt.Sprintf(`{"storageType": "redis", "address": %q}`, redis.URL),
		"prompts/twin.json":    `{"promptKey": "twin", "version": "1.0.0", "template": "Answer."}`,
	}
	if mcp != "" {
		set["twin/agent-base.json"] = `{"promptKey": "twin", "expose": {"a2a": {"tools": ["ask_user"]}}, "approval": {"tools": [{"tool": "tools/alpha"}]}}`
		set["twin/mcp-servers.json"] = `{"mcpServers": [{"mcpServerName": "tools"}]}`
		set["mcp/tools.json"] = fmt.Sprintf(`{"name": "tools", "transport": "streamable-http", "endpoints": [{"url": %q}]}`, mcp)
	}
	w.apply(t, set)
	var both []*harness.Agent
	for _, instance := range []string{"twin-a", "twin-b"} {
		x, err := w.StartAgent(w.cp, "twin", harness.AgentOptions{Instance: instance, ModelBaseURL: w.url})
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, x)
	}
	for _, x := range both {
		if err := x.WaitReady(t.Context(), 30*time.Second); err != nil {
			t.Fatalf("%v\nagentd:\n%s\ncontrolplane:\n%s", err, x.Output(), w.cp.Output())
		}
	}
	return w, both[0], both[1]
}

// a2aAsked waits until the model was asked by a rule, and gives the request.
func (w *world) a2aAsked(t *testing.T, rule string) scriptmodel.Seen {
	t.Helper()
	var seen scriptmodel.Seen
	eventually(t, 10*time.Second, func(context.Context) error {
		all := w.model.Requests()
		i := slices.IndexFunc(all, func(s scriptmodel.Seen) bool { return s.Rule == rule })
		if i < 0 {
			return fmt.Errorf("the model was not asked by rule %q", rule)
		}
		seen = all[i]
		return nil
	})
	return seen
}

// A task that one instance works on is got, listed, watched and canceled on another one; canceling ends the model call.
func TestATaskIsKnownToEveryInstance(t *testing.T) {
	t.Parallel()
	w, a, b := twins(t, "")
	task := a2aSend(t, a, "", "slow", true)
	w.a2aAsked(t, "slow")
	a2aUntil(t, b, task.ID, "WORKING", 5*time.Second)
	var list struct{ Tasks []a2aTask }
	if err := a2aCall(t.Context(), b, "ListTasks", map[string]any{}, &list); err != nil || len(list.Tasks) != 1 || list.Tasks[0].ID != task.ID {
		t.Errorf("the list: %+v %v", list, err)
	}
	atA, atB := a2aSubscribe(t, a, task.ID), a2aSubscribe(t, b, task.ID)
	if first := <-atB; first.Task == nil || first.Task.ID != task.ID {
		t.Fatalf("the stream begins with %+v", first)
	}
	var canceled a2aTask
	if err := a2aCall(t.Context(), b, "CancelTask", map[string]any{"id": task.ID}, &canceled); err != nil || canceled.Status.State != "TASK_STATE_CANCELED" {
		t.Fatalf("%+v %v", canceled, err)
	}
	a2aLast(t, atA, "CANCELED", 5*time.Second)
	a2aLast(t, atB, "CANCELED", 5*time.Second)
	eventually(t, 5*time.Second, func(context.Context) error {
		if seen := w.a2aAsked(t, "slow"); seen.Ended == nil || !seen.Aborted {
			return fmt.Errorf("the model call goes on: %v %v", seen.Ended, seen.Aborted)
		}
		return nil
	})
	if got, err := a2aGet(t.Context(), a, task.ID); err != nil || got.Status.State != "TASK_STATE_CANCELED" {
		t.Errorf("%+v %v", got, err)
	}
	done := a2aSend(t, b, "", "hello", false)
	if got, err := a2aGet(t.Context(), a, done.ID); err != nil || got.Status.State != "TASK_STATE_COMPLETED" || got.text() != "answer to hello" {
		t.Errorf("%+v %v", got, err)
	}
}

// An instance that is killed as it works on a task: who reads the task elsewhere learns within 5 s that it has failed, and why.
func TestTheTaskOfAKilledInstanceFails(t *testing.T) {
	t.Parallel()
	w, a, b := twins(t, "")
	task := a2aSend(t, a, "", "slow", true)
	w.a2aAsked(t, "slow")
	events := a2aSubscribe(t, b, task.ID)
	if first := <-events; first.Task == nil {
		t.Fatalf("the stream begins with %+v", first)
	}
	killed := time.Now()
	a.Kill()
	end := a2aLast(t, events, "FAILED", 20*time.Second)
	if took := end.at.Sub(killed); took > 5*time.Second {
		t.Errorf("the reader learnt it after %s", took)
	} else {
		t.Logf("the reader learnt it after %s", took.Round(time.Millisecond))
	}
	if why := end.StatusUpdate.Status.said(); !strings.Contains(why, "instance") {
		t.Errorf("the reason is %q", why)
	}
	a2aUntil(t, b, task.ID, "FAILED", time.Second)
}

// A task that waits for its caller outlives its instance, and both instances: it is answered wherever there is one.
func TestATaskThatAsksOutlivesItsInstances(t *testing.T) {
	t.Parallel()
	_, a, b := twins(t, "")
	first, second := a2aSend(t, a, "", "ask one", false), a2aSend(t, a, "", "ask two", false)
	for _, task := range []a2aTask{first, second} {
		if task.Status.State != "TASK_STATE_INPUT_REQUIRED" || task.Status.said() != "Which day?" {
			t.Fatalf("%+v", task)
		}
	}
	a.Kill()
	if done := a2aSend(t, b, first.ID, "Monday", false); done.Status.State != "TASK_STATE_COMPLETED" || done.text() != "answer: Monday" {
		t.Errorf("answered elsewhere: %+v", done)
	}
	b.Kill()
	for _, x := range []*harness.Agent{a, b} {
		if err := x.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []*harness.Agent{a, b} {
		if err := x.WaitReady(t.Context(), 30*time.Second); err != nil {
			t.Fatalf("%v\n%s", err, x.Output())
		}
	}
	if got, err := a2aGet(t.Context(), a, first.ID); err != nil || got.Status.State != "TASK_STATE_COMPLETED" || got.text() != "answer: Monday" {
		t.Errorf("after the restart: %+v %v", got, err)
	}
	if done := a2aSend(t, b, second.ID, "Tuesday", false); done.Status.State != "TASK_STATE_COMPLETED" || done.text() != "answer: Tuesday" {
		t.Errorf("answered after the restart: %+v", done)
	}
}

// approveAt approves the run that a task waits for, at an instance's REST door.
func approveAt(t *testing.T, at *harness.Agent, task a2aTask) {
	t.Helper()
	var waits struct{ ID string }
	if len(task.Status.Message.Parts) < 2 || json.Unmarshal(task.Status.Message.Parts[1].Data, &waits) != nil || waits.ID == "" {
		t.Fatalf("%+v", task)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at.URL()+"/api/v1/approvals/"+waits.ID, strings.NewReader(`{"decision": "approve"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("approve: %s", resp.Status)
	}
}

// A run that goes on after a consent at another door of another instance is that instance's task: canceling the task anywhere ends it, and
// its readers learn it when the instance is killed.
func TestTheTaskOfARunThatWasDecidedElsewhere(t *testing.T) {
	t.Parallel()
	stub := harness.NewMCPStub("tools", "alpha")
	t.Cleanup(stub.Close)
	w, a, b := twins(t, stub.URL)
	for _, how := range []string{"canceled", "killed"} {
		w.model.Clear()
		task := a2aSend(t, a, "", "danger slow", false)
		events := a2aSubscribe(t, a, task.ID)
		approveAt(t, b, task)
		w.a2aAsked(t, "slow after the tool")
		a2aLast(t, events, "WORKING", 5*time.Second)
		if how == "killed" {
			began := time.Now()
			b.Kill()
			end := a2aLast(t, events, "FAILED", 20*time.Second)
			if took := end.at.Sub(began); took > 5*time.Second || !strings.Contains(end.StatusUpdate.Status.said(), "instance") {
				t.Errorf("the reader learnt after %s: %q", took, end.StatusUpdate.Status.said())
			}
			continue
		}
		var canceled a2aTask
		if err := a2aCall(t.Context(), a, "CancelTask", map[string]any{"id": task.ID}, &canceled); err != nil || canceled.Status.State != "TASK_STATE_CANCELED" {
			t.Fatalf("%+v %v", canceled, err)
		}
		eventually(t, 5*time.Second, func(context.Context) error {
			if seen := w.a2aAsked(t, "slow after the tool"); seen.Ended == nil || !seen.Aborted {
				return fmt.Errorf("the model call goes on: %v %v", seen.Ended, seen.Aborted)
			}
			return nil
		})
	}
}

// A task that waits for consent is decided about after its instance was killed, and told of by the instance that goes on with it.
func TestATaskThatWaitsForConsentOutlivesItsInstance(t *testing.T) {
	t.Parallel()
	stub := harness.NewMCPStub("tools", "alpha")
	t.Cleanup(stub.Close)
	w, a, b := twins(t, stub.URL)
	task := a2aSend(t, a, "", "danger", false)
	if task.Status.State != "TASK_STATE_INPUT_REQUIRED" || !strings.Contains(task.Status.said(), "tools/alpha") {
		t.Fatalf("%+v", task)
	}
	events := a2aSubscribe(t, b, task.ID)
	if first := <-events; first.Task == nil {
		t.Fatalf("the stream begins with %+v", first)
	}
	a.Kill()
	var waiting []approvalLine
	eventually(t, 20*time.Second, func(ctx context.Context) (err error) {
		if waiting, err = w.approvals(ctx); err == nil && len(waiting) != 1 {
			err = fmt.Errorf("%+v wait", waiting)
		}
		return err
	})
	if _, err := w.CtlOK(t.Context(), w.cp, "approvals", "approve", waiting[0].ID); err != nil {
		t.Fatal(err)
	}
	a2aLast(t, events, "COMPLETED", 15*time.Second)
	if got, err := a2aGet(t.Context(), b, task.ID); err != nil || !strings.HasPrefix(got.text(), "answer: ") {
		t.Errorf("%+v %v", got, err)
	}
	if calls := stub.TakeCalls(); len(calls) != 1 {
		t.Errorf("calls: %v", calls)
	}
}
