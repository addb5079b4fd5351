package scriptmodel

import "time"

// Script is what the server answers. The first rule that matches wins.
type Script struct {
	// Models is what GET /v1/models lists; default "scripted". Every model name is answered all the same.
	Models []string `yaml:"models"`
	Rules  []Rule   `yaml:"rules"`
	// Default is used when no rule matches; nil: a text that says so.
	Default *Reply `yaml:"default"`
}

// Rule is one condition and what happens then.
type Rule struct {
	// Name appears in Seen; default "rule N", counted from 1.
	Name  string `yaml:"name"`
	When  When   `yaml:"when"`
	Reply *Reply `yaml:"reply"`
	// Fault comes instead of the reply. Once its Times are used up the reply counts, or without one the next rule.
	Fault *Fault `yaml:"fault"`
}

// When holds conditions, all of which must hold; an empty one always does.
//
// A rule that replies with tool calls and says nothing about ToolResult is passed over when the request ends in
// tool results: otherwise the same rule would match again and the loop would never end.
type When struct {
	// User matches the last user message.
	User *Match `yaml:"user"`
	// System matches the system (or developer) messages, joined by line breaks.
	System *Match `yaml:"system"`
	// ToolResult matches the tool messages after the last assistant message, joined by line breaks.
	ToolResult *Match `yaml:"toolResult"`
	Model      *Match `yaml:"model"`
	// Turn is the number of user messages in the request; 0: any.
	Turn int `yaml:"turn"`
	// Round is 1 plus the number of assistant messages after the last user message; 0: any.
	Round int `yaml:"round"`
	// Format matches the type of the response_format and, after a space, its schema's name: "json_object", "json_schema ticket".
	Format *Match `yaml:"format"`
	// Image matches the addresses of the last user message's images, joined by line breaks.
	Image *Match `yaml:"image"`
	// Metadata matches values of the request's metadata.
	Metadata map[string]*Match `yaml:"metadata"`
	// Tools are globs or suffixes of names, each of which must be offered; with a leading "!", must not be.
	Tools  []string `yaml:"tools"`
	Stream *bool    `yaml:"stream"`
}

// Reply is an answer. Text and the strings in JSON and in arguments may hold {{user}}, {{system}}, {{toolResult}}, {{model}},
// {{temperature}}, {{topP}}, {{maxTokens}}, {{tools}}, {{turn}}, {{round}}, {{format}}, {{images}} (how many), {{metadata.NAME}} and the groups of the
// rule's regular expressions, {{1}}, {{2}}...; a group is taken from the first of User, ToolResult, System that has it.
type Reply struct {
	Text string `yaml:"text"`
	// JSON is a text that is this value as JSON, in Text's place.
	JSON any `yaml:"json"`
	// Reasoning is sent before the text, as reasoning_content.
	Reasoning string     `yaml:"reasoning"`
	ToolCalls []ToolCall `yaml:"toolCalls"`
	Usage     *Usage     `yaml:"usage"`
	// FinishReason is by default "tool_calls" with tool calls, else "stop".
	FinishReason string `yaml:"finishReason"`
	Pace         Pace   `yaml:"pace"`
	// Delay passes before the first byte.
	Delay time.Duration `yaml:"delay"`
}

// ToolCall asks for a tool. Name is an offered tool's name, a glob, or the end of one ("getConfig" finds
// "nacos__getConfig"); where nothing offered fits, it is sent as it stands.
type ToolCall struct {
	Name string `yaml:"name"`
	// Arguments is a mapping, sent as JSON, or a string, sent as it stands (malformed on purpose, say).
	Arguments any `yaml:"arguments"`
}

// Usage is the token count to report; nil in a Reply: one token per four characters.
type Usage struct {
	PromptTokens     int `yaml:"promptTokens"`
	CompletionTokens int `yaml:"completionTokens"`
}

// Pace is the speed of a stream.
type Pace struct {
	// Delay passes before each chunk but the first.
	Delay time.Duration `yaml:"delay"`
	// Chunk is its size in characters; default 16.
	Chunk int `yaml:"chunk"`
}

// Fault is a failure on purpose. Slow may go with any other field; of the others, the first that is set counts.
type Fault struct {
	// Status is an HTTP status from 400 on.
	Status int `yaml:"status"`
	// RetryAfter is sent with Status, in whole seconds, rounded up.
	RetryAfter time.Duration `yaml:"retryAfter"`
	// Message is the error's text; default "scripted fault".
	Message string `yaml:"message"`
	// HalfOpen stops in the middle of the answer and keeps the connection until the client leaves.
	HalfOpen bool `yaml:"halfOpen"`
	// BrokenSSE ends a stream inside an event; without streaming it is WrongJSON.
	BrokenSSE bool `yaml:"brokenSSE"`
	// WrongJSON answers 200 with a body that isn't the API's.
	WrongJSON bool `yaml:"wrongJSON"`
	// GarbageSSE sends half of a stream and then events that are no chunks; without streaming it is WrongJSON.
	GarbageSSE bool `yaml:"garbageSSE"`
	// Reset ends the connection in the middle of the answer by a TCP reset.
	Reset bool `yaml:"reset"`
	// Drip sends the answer byte by byte with this pause after each.
	Drip time.Duration `yaml:"drip"`
	// HugeArguments answers with one tool call whose arguments have this many bytes.
	HugeArguments int `yaml:"hugeArguments"`
	// Slow passes before anything is sent.
	Slow time.Duration `yaml:"slow"`
	// Times is how many requests meet the fault; 0: all.
	Times int `yaml:"times"`
}

// DefaultScript echoes: enough to see that a spec is wired up.
func DefaultScript() Script {
	present := true
	return Script{
		Models: []string{"scripted"},
		Rules: []Rule{
			{Name: "default json", When: When{Format: &Match{Contains: "json_"}}, Reply: &Reply{JSON: map[string]any{"scripted": true, "said": "{{user}}"}}},
			{Name: "default tool result", When: When{ToolResult: &Match{Present: &present}}, Reply: &Reply{Text: "The tool answered: {{toolResult}}"}},
			{Name: "default echo", Reply: &Reply{Text: "Scripted answer, no language model behind it. You said: {{user}}"}},
		},
	}
}
