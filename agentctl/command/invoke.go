package command

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentry/agentry/internal/secret"
)

// invocation is one question to an agent.
type invocation struct {
	agent    string
	text     string
	session  string
	revision int64
	stream   bool
	key      agentKey
	out      output
}

// answerDoc is an agent's answer.
type answerDoc struct {
	Agent        string          `json:"agent"`
	Instance     string          `json:"instance"`
	Revision     string          `json:"revision"`
	Config       string          `json:"config"`
	Session      string          `json:"session"`
	Pending      string          `json:"pending,omitempty"` // the run that waits for approval
	Text         string          `json:"text"`
	FinishReason string          `json:"finishReason"`
	Usage        json.RawMessage `json:"usage"` // as the door gave it; null where it gave none
}

func (c *cli) invokeCmd() *cobra.Command {
	var in invocation
	var far farAgent
	var message, file string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "invoke AGENT | --a2a URL -m TEXT | -f FILE|-", Short: "Ask an agent, through the OpenAI-compatible door of one of its instances, or any agent by A2A",
		Example: `  agentctl invoke mse-nacos-helper -m "which config sets the timeout?"
  echo hello | agentctl invoke mse-nacos-helper -f - --stream
  agentctl invoke --a2a https://agent.example.com -m "which day?"
  agentctl invoke --a2a https://agent.example.com --task ID -m "on Monday"`, Args: args(0, 1),
		ValidArgsFunction: c.completer(kindAgent),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := in.out.check(); err != nil {
				return err
			}
			switch {
			case message != "" && file != "":
				return usagef("-m or -f, not both")
			case file != "":
				b, err := c.readInput(file)
				if err != nil {
					return err
				}
				message = string(b)
			case message == "" && far.task == "":
				return failf(exitUsage, "give -m TEXT, or -f - to read standard input", "nothing to ask")
			}
			if far.address != "" {
				in.text = message
				return c.invokeA2A(cmd.Context(), far, in, names, timeout)
			}
			if err := far.alone(cmd); err != nil {
				return err
			}
			if len(names) == 0 {
				return failf(exitUsage, "usage: "+cmd.UseLine(), "which agent? name it, or give its address with --a2a")
			}
			in.agent, in.text = strings.TrimPrefix(names[0], "agent/"), message
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return c.invoke(ctx, in)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&message, "message", "m", "", "what to ask")
	f.StringVarP(&file, "filename", "f", "", `file with what to ask; "-": standard input`)
	f.StringVar(&in.session, "session", "", "go on with this session (with --a2a: context); without one the question stands alone")
	f.Int64Var(&in.revision, "revision", 0, "ask an instance that runs this revision")
	f.BoolVar(&in.stream, "stream", false, "print the answer as it comes (with -o json one chunk a line)")
	f.DurationVar(&timeout, "timeout", 10*time.Minute, "give up after it")
	in.key.bind(cmd)
	in.out.bind(cmd)
	far.bind(cmd)
	return cmd
}

// invoke asks the first instance that can be connected to. A question that was sent is never sent again.
func (c *cli) invoke(ctx context.Context, in invocation) error {
	cl, err := c.connect()
	if err != nil {
		return err
	}
	s, err := cl.getStatus(ctx, in.agent)
	if err != nil {
		return fmt.Errorf("agent %q: %w", in.agent, err)
	}
	d := toStatus(s)
	client, err := c.instanceClient()
	if err != nil {
		return err
	}
	last := noInstance(d)
	for _, i := range reachable(d) {
		if in.revision != 0 {
			last = failf(exitUnreachable, "agentctl status "+in.agent, "no instance of agent %q runs revision %d", in.agent, in.revision)
		}
		if in.revision != 0 && i.Running.Revision != in.revision {
			continue
		}
		resp, err := in.send(ctx, client, in.key.value(c), i)
		if err == nil {
			defer func() { _ = resp.Body.Close() }()
			return c.answer(resp, in, i)
		}
		var told *failure
		switch {
		case errors.As(err, &told):
			return err
		case ctx.Err() != nil:
			return failf(exitTimeout, "", "agent %q: %w", in.agent, err)
		}
		last = failf(exitUnreachable, "agentctl status "+in.agent, "instance %s of agent %q: %w", i.ID, in.agent, err)
	}
	return last
}

func (in invocation) send(ctx context.Context, client *http.Client, key secret.Value, i instanceDoc) (*http.Response, error) {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	body, err := json.Marshal(struct {
		Model    string    `json:"model"`
		Messages []message `json:"messages"`
		Stream   bool      `json:"stream"`
	}{in.agent, []message{{"user", in.text}}, in.stream})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, instanceURL(i.Endpoint)+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if in.session != "" {
		req.Header.Set("X-Session-Id", in.session)
	}
	if err := authorize(req, key); err != nil {
		return nil, err
	}
	return client.Do(req)
}

// chatError is the OpenAI API's shape of an error.
type chatError struct {
	Error *struct {
		Message string `json:"message"`
		Code    any    `json:"code"`
	} `json:"error"`
}

func (c *cli) answer(resp *http.Response, in invocation, i instanceDoc) error {
	doc := answerDoc{
		Agent: in.agent, Instance: i.ID, Session: in.session,
		Revision: resp.Header.Get("X-Agentry-Revision"), Config: resp.Header.Get("X-Agentry-Config"), Pending: resp.Header.Get("X-Agentry-Pending"),
	}
	if resp.StatusCode != http.StatusOK {
		b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			return failf(exitUnreachable, "", "read the answer: %w", err)
		}
		text := string(bytes.TrimSpace(b))
		var e chatError
		if json.Unmarshal(b, &e) == nil && e.Error != nil {
			text = e.Error.Message
		}
		hint := "agentctl status " + in.agent
		switch {
		case resp.StatusCode == http.StatusUnauthorized:
			hint = hintKey
		case resp.StatusCode == http.StatusConflict && doc.Pending != "":
			hint = "agentctl approvals list " + in.agent + " says what waits; then agentctl approvals approve, or deny"
		}
		return failf(codeOfHTTP(resp.StatusCode), hint, "agent %q (instance %s): %s: %s", in.agent, i.ID, resp.Status, text)
	}
	if in.stream {
		return c.answerStream(resp.Body, in, doc)
	}
	var got struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
			FinishReason string `json:"finish_reason"`
		} `json:"choices"`
		Usage json.RawMessage `json:"usage"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 32<<20)).Decode(&got); err != nil {
		return fmt.Errorf("read the answer of instance %s: %w", i.ID, err)
	}
	if len(got.Choices) == 0 {
		return failf(exitFailure, "", "instance %s answered without a choice", i.ID)
	}
	doc.Text, doc.FinishReason, doc.Usage = got.Choices[0].Message.Content, got.Choices[0].FinishReason, got.Usage
	if in.out.machine() {
		return printDoc(c.env.Stdout, in.out, doc)
	}
	_, err := fmt.Fprintln(c.env.Stdout, c.spoken(doc.Text))
	return err
}

// answerStream prints server-sent events as they come. A stream without its [DONE] was cut off.
func (c *cli) answerStream(body io.Reader, in invocation, doc answerDoc) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 64<<10), 4<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		if data = strings.TrimSpace(data); data == "[DONE]" {
			if !in.out.machine() {
				_, _ = fmt.Fprintln(c.env.Stdout)
			}
			return nil
		}
		var chunk struct {
			chatError
			Choices []struct {
				Delta struct {
					Content string `json:"content"`
				} `json:"delta"`
			} `json:"choices"`
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			return fmt.Errorf("read the stream of instance %s: %w", doc.Instance, err)
		}
		if chunk.Error != nil {
			return failf(exitFailure, "", "agent %q: %s", doc.Agent, chunk.Error.Message)
		}
		if in.out.machine() {
			_, _ = fmt.Fprintln(c.env.Stdout, data)
			continue
		}
		for _, ch := range chunk.Choices {
			_, _ = io.WriteString(c.env.Stdout, c.spoken(ch.Delta.Content))
		}
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return failf(exitTimeout, "", "agent %q: %w", doc.Agent, err)
		}
		return failf(exitUnreachable, "", "the stream of instance %s broke: %w", doc.Instance, err)
	}
	return failf(exitUnreachable, "", "the stream of instance %s ended too early", doc.Instance)
}
