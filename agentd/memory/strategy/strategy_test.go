package strategy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/memory/inmemory"
	"github.com/agentry/agentry/agentd/memory/strategy"
	"github.com/agentry/agentry/internal/errs"
)

func key() memory.Key {
	return memory.Key{Namespace: "default", Agent: "a", Principal: "p", Session: "s"}
}

func open(t *testing.T, cfg strategy.Config) *strategy.Memory {
	t.Helper()
	s, err := inmemory.NewStore(inmemory.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := strategy.New(s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func remember(t *testing.T, m *strategy.Memory, exchanges ...[]string) {
	t.Helper()
	for _, e := range exchanges {
		var x memory.Exchange
		for i, text := range e {
			role := "user"
			if i == len(e)-1 {
				role = "assistant"
			}
			x.Turns = append(x.Turns, memory.Turn{Role: role, Text: text})
		}
		if err := m.Remember(t.Context(), key(), x); err != nil {
			t.Fatal(err)
		}
	}
}

func recall(t *testing.T, m *strategy.Memory, q memory.Query) (string, []string) {
	t.Helper()
	r, err := m.Recall(t.Context(), key(), q)
	if err != nil {
		t.Fatal(err)
	}
	return r.Summary, texts(r.Turns)
}

func texts(turns []memory.Turn) []string {
	var out []string
	for _, t := range turns {
		out = append(out, t.Text)
	}
	return out
}

func TestCompression(t *testing.T) {
	t.Parallel()
	double := func(s string) int { return 2 * len(s) }
	for name, tc := range map[string]struct {
		cfg   strategy.Config
		query memory.Query
		want  []string
	}{
		"none keeps all":                     {strategy.Config{Compression: strategy.None, MaxTokens: 1, MaxTurns: 1}, memory.Query{}, []string{"q0", "a0", "q1", "a1", "q2", "q2b", "a2"}},
		"window":                             {strategy.Config{Compression: strategy.Window, MaxTurns: 5}, memory.Query{}, []string{"q1", "a1", "q2", "q2b", "a2"}},
		"window never cuts an exchange":      {strategy.Config{Compression: strategy.Window, MaxTurns: 4}, memory.Query{}, []string{"q2", "q2b", "a2"}},
		"window by default":                  {strategy.Config{Compression: strategy.Window}, memory.Query{}, []string{"q0", "a0", "q1", "a1", "q2", "q2b", "a2"}},
		"token budget":                       {strategy.Config{MaxTokens: 25}, memory.Query{}, []string{"q1", "a1", "q2", "q2b", "a2"}},
		"token budget, to the token":         {strategy.Config{MaxTokens: 24}, memory.Query{}, []string{"q2", "q2b", "a2"}},
		"token budget by the model's counts": {strategy.Config{MaxTokens: 30}, memory.Query{Estimate: double}, []string{"q2", "q2b", "a2"}},
		"token budget and turns":             {strategy.Config{MaxTokens: 99, MaxTurns: 3}, memory.Query{}, []string{"q2", "q2b", "a2"}},
		"token budget too small for one":     {strategy.Config{MaxTokens: 4}, memory.Query{}, nil},
		"summarize without a summary":        {strategy.Config{Compression: strategy.Summarize, MaxTokens: 25}, memory.Query{}, []string{"q1", "a1", "q2", "q2b", "a2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := open(t, tc.cfg)
			remember(t, m, []string{"q0", "a0"}, []string{"q1", "a1"}, []string{"q2", "q2b", "a2"})
			summary, got := recall(t, m, tc.query)
			if diff := cmp.Diff(tc.want, got); diff != "" || summary != "" {
				t.Errorf("summary %q (-want +got):\n%s", summary, diff)
			}
		})
	}
}

// What tools were given and gave counts too.
func TestToolsCount(t *testing.T) {
	t.Parallel()
	m := open(t, strategy.Config{MaxTokens: 60})
	heavy := memory.Exchange{Turns: []memory.Turn{{Role: "user", Text: "q"}, {Role: "assistant", Text: "a", Tools: []memory.ToolUse{{Name: "t", Result: strings.Repeat("x", 400)}}}}}
	if err := m.Remember(t.Context(), key(), heavy); err != nil {
		t.Fatal(err)
	}
	remember(t, m, []string{"q1", "a1"})
	if _, got := recall(t, m, memory.Query{}); !cmp.Equal(got, []string{"q1", "a1"}) {
		t.Errorf("recalled %v", got)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	s, err := inmemory.NewStore(inmemory.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]strategy.Config{
		"compression":           {Compression: "squeeze"},
		"search":                {Search: "guess"},
		"vector without a door": {Search: strategy.Vector, EmbeddingModel: "e"},
		"hybrid without model":  {Search: strategy.Hybrid, Embed: byWords},
		"negative":              {MaxTurns: -1},
	} {
		if _, err := strategy.New(s, cfg); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := strategy.New(nil, strategy.Config{}); !errs.Is(err, errs.Invalid) {
		t.Errorf("no store: %v", err)
	}
}

// byWords embeds a text as which of a few topics are in it.
func byWords(_ context.Context, _ string, in []string) ([][]float32, error) {
	topics := []string{"cat kitten feline", "ship harbour boat", "tax invoice refund"}
	out := make([][]float32, len(in))
	for i, text := range in {
		out[i] = make([]float32, len(topics)+1)
		out[i][len(topics)] = 0.01
		for j, topic := range topics {
			for w := range strings.FieldsSeq(topic) {
				if strings.Contains(text, w) {
					out[i][j]++
				}
			}
		}
	}
	return out, nil
}

func conversation() [][]string {
	return [][]string{
		{"my kitten is called Momo", "a lovely name"},
		{"which boat goes at noon", "the white one"},
		{"the invoice number is 4711", "noted"},
		{"what about the weather", "sunny"},
		{"and tomorrow", "rain"},
		{"thanks so much", "any time"},
	}
}

func TestSearchInRecall(t *testing.T) {
	t.Parallel()
	newest := []string{"and tomorrow", "rain", "thanks so much", "any time"}
	next := append([]string{"what about the weather", "sunny"}, newest...)
	for name, tc := range map[string]struct {
		by    strategy.Search
		query string
		want  []string
	}{
		"recency":                   {strategy.Recency, "invoice", next},
		"keyword":                   {strategy.Keyword, "repeat the invoice number", append([]string{"the invoice number is 4711", "noted"}, newest...)},
		"keyword, none shares one":  {strategy.Keyword, "zebra", next},
		"keyword without a query":   {strategy.Keyword, "", next},
		"vector, by another word":   {strategy.Vector, "the feline", append([]string{"my kitten is called Momo", "a lovely name"}, newest...)},
		"hybrid, by another word":   {strategy.Hybrid, "harbour", append([]string{"which boat goes at noon", "the white one"}, newest...)},
		"hybrid, by the same words": {strategy.Hybrid, "4711", append([]string{"the invoice number is 4711", "noted"}, newest...)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := open(t, strategy.Config{Compression: strategy.Window, MaxTurns: 6, Search: tc.by, Embed: byWords, EmbeddingModel: "e"})
			remember(t, m, conversation()...)
			_, got := recall(t, m, memory.Query{Text: tc.query})
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSearch(t *testing.T) {
	t.Parallel()
	for by, want := range map[strategy.Search][]string{
		strategy.Recency: {"any time", "thanks so much"},
		strategy.Keyword: {"which boat goes at noon", "the white one"},
		strategy.Vector:  {"which boat goes at noon", "the white one"},
		strategy.Hybrid:  {"which boat goes at noon", "the white one"},
	} {
		m := open(t, strategy.Config{Search: by, Embed: byWords, EmbeddingModel: "e"})
		remember(t, m, conversation()...)
		got, err := m.Search(t.Context(), key(), "a boat", 2)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, texts(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", by, diff)
		}
	}
	m := open(t, strategy.Config{Search: strategy.Keyword})
	remember(t, m, []string{"請問退款需要多久", "三天"}, []string{"明天天氣如何", "晴天"})
	if got, _ := m.Search(t.Context(), key(), "退款", 1); len(got) != 1 || got[0].Text != "請問退款需要多久" {
		t.Errorf("without spaces between words: %v", got)
	}
}

// Embeddings are asked for once for each exchange, only when a search needs them; where they can't be had words count.
func TestEmbeddings(t *testing.T) {
	t.Parallel()
	var asked []int
	down := false
	m := open(t, strategy.Config{
		Compression: strategy.Window, MaxTurns: 6, Search: strategy.Vector, EmbeddingModel: "e",
		Embed: func(ctx context.Context, model string, in []string) ([][]float32, error) {
			if down {
				return nil, errors.New("no endpoint")
			}
			asked = append(asked, len(in))
			return byWords(ctx, model, in)
		},
	})
	remember(t, m, conversation()[:3]...)
	recall(t, m, memory.Query{Text: "the feline"})
	if len(asked) != 0 {
		t.Fatalf("a short session was embedded: %v", asked)
	}
	remember(t, m, conversation()[3:]...)
	for range 2 {
		recall(t, m, memory.Query{Text: "the feline"})
	}
	if !cmp.Equal(asked, []int{6, 1}) { // the query and five older exchanges, then the query
		t.Errorf("texts embedded by call: %v", asked)
	}
	down = true
	if _, got := recall(t, m, memory.Query{Text: "invoice"}); got[0] != "the invoice number is 4711" {
		t.Errorf("without embeddings: %v", got)
	}
}

// A vector that is no vector is never near anything.
func TestOddVectors(t *testing.T) {
	t.Parallel()
	for name, v := range map[string][][]float32{
		"empty": {{}, {}, {}, {}, {}}, "zero": {{0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}}, "other lengths": {{1}, {1, 2}, {1, 2, 3}, {1, 2}, {1, 2}}, "too few": {{1}},
	} {
		m := open(t, strategy.Config{
			Compression: strategy.Window, MaxTurns: 6, Search: strategy.Vector, EmbeddingModel: "e",
			Embed: func(context.Context, string, []string) ([][]float32, error) { return v, nil },
		})
		remember(t, m, conversation()...)
		if _, got := recall(t, m, memory.Query{Text: "xyz"}); !cmp.Equal(got, []string{"what about the weather", "sunny", "and tomorrow", "rain", "thanks so much", "any time"}) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestCompact(t *testing.T) {
	t.Parallel()
	m := open(t, strategy.Config{Compression: strategy.Summarize, MaxTokens: 60})
	var seen [][]string
	var before []string
	compact := func() {
		t.Helper()
		if err := m.Compact(t.Context(), key(), func(_ context.Context, previous string, turns []memory.Turn) (string, error) {
			before, seen = append(before, previous), append(seen, texts(turns))
			return fmt.Sprint("summary ", len(seen)), nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	compact() // nothing there
	for i := range 6 {
		remember(t, m, []string{fmt.Sprint("q", i), fmt.Sprint("a", i)})
	}
	compact() // 60 of 60
	if len(seen) != 0 {
		t.Fatalf("summarized within the bound: %v", seen)
	}
	remember(t, m, []string{"q6", "a6"})
	compact()
	compact() // it fits now
	if diff := cmp.Diff([][]string{{"q0", "a0", "q1", "a1", "q2", "a2", "q3", "a3"}}, seen); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	summary, got := recall(t, m, memory.Query{})
	if diff := cmp.Diff([]string{"q4", "a4", "q5", "a5", "q6", "a6"}, got); diff != "" || summary != "summary 1" {
		t.Errorf("summary %q (-want +got):\n%s", summary, diff)
	}
	for i := 7; i < 10; i++ {
		remember(t, m, []string{fmt.Sprint("q", i), fmt.Sprint("a", i)})
	}
	compact()
	if diff := cmp.Diff([]string{"", "summary 1"}, before); diff != "" {
		t.Errorf("what went before (-want +got):\n%s", diff)
	}
	if turns, err := m.History(t.Context(), key(), 0); err != nil || len(turns) != 20 {
		t.Errorf("history has %d turns, %v: people see what was summarized", len(turns), err)
	}
}

// A try that failed changes nothing, and is not made again until the session has grown by half.
func TestCompactFails(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("very long ", 99)
	for name, answer := range map[string]struct {
		text string
		err  error
	}{
		"error":       {err: errors.New("no model")},
		"empty":       {},
		"not shorter": {text: long},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := open(t, strategy.Config{Compression: strategy.Summarize, MaxTokens: 60})
			tries := 0
			compact := func() error {
				return m.Compact(t.Context(), key(), func(context.Context, string, []memory.Turn) (string, error) {
					tries++
					return answer.text, answer.err
				})
			}
			for i := range 7 { // 70 tokens
				remember(t, m, []string{fmt.Sprint("q", i), fmt.Sprint("a", i)})
			}
			if err := compact(); err == nil {
				t.Fatal("no error")
			}
			if summary, got := recall(t, m, memory.Query{}); summary != "" || len(got) != 12 {
				t.Errorf("summary %q and %v", summary, got)
			}
			for i := 7; i < 10; i++ { // 100 tokens
				remember(t, m, []string{fmt.Sprint("q", i), fmt.Sprint("a", i)})
				if err := compact(); err != nil {
					t.Fatal(err)
				}
			}
			if tries != 1 {
				t.Fatalf("%d tries", tries)
			}
			remember(t, m, []string{"qx", "ax"}) // 110
			if err := compact(); err == nil || tries != 2 {
				t.Errorf("%d tries, %v", tries, err)
			}
		})
	}
}

// always makes the same summary of everything.
func always(text string) memory.Summarize {
	return func(context.Context, string, []memory.Turn) (string, error) { return text, nil }
}

// A summary goes in the place of exactly what it was made of, or nowhere.
func TestCompactRaces(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ forget, add, faster bool }{
		"an exchange is added":   {add: true},
		"it was forgotten":       {forget: true},
		"another life began":     {forget: true, add: true},
		"another one was faster": {faster: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := open(t, strategy.Config{Compression: strategy.Summarize, MaxTokens: 60})
			for i := range 7 {
				remember(t, m, []string{fmt.Sprint("q", i), fmt.Sprint("a", i)})
			}
			if err := m.Compact(t.Context(), key(), func(context.Context, string, []memory.Turn) (string, error) {
				if tc.forget {
					_ = m.Forget(t.Context(), key())
				}
				if tc.add {
					remember(t, m, []string{"new", "turn"})
				}
				if tc.faster {
					if err := m.Compact(t.Context(), key(), always("theirs")); err != nil {
						t.Error(err)
					}
				}
				return "mine", nil
			}); err != nil {
				t.Error(err)
			}
			summary, got := recall(t, m, memory.Query{})
			want := map[string][]string{
				"an exchange is added":   {"mine", "q4", "a4", "q5", "a5", "q6", "a6", "new", "turn"},
				"it was forgotten":       {""},
				"another life began":     {"", "new", "turn"},
				"another one was faster": {"theirs", "q4", "a4", "q5", "a5", "q6", "a6"},
			}[name]
			if diff := cmp.Diff(want, append([]string{summary}, got...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What a summary stands for comes back where it answers the request, beside everything that is newer.
func TestSearchBehindSummary(t *testing.T) {
	t.Parallel()
	m := open(t, strategy.Config{Compression: strategy.Summarize, MaxTokens: 90, Search: strategy.Keyword})
	remember(t, m, conversation()...)
	if err := m.Compact(t.Context(), key(), always("small talk")); err != nil {
		t.Fatal(err)
	}
	summary, without := recall(t, m, memory.Query{Text: "zebra"})
	if summary != "small talk" || len(without) == 0 || without[0] == "my kitten is called Momo" {
		t.Fatalf("%q, %v", summary, without)
	}
	_, with := recall(t, m, memory.Query{Text: "Momo"})
	if diff := cmp.Diff(append([]string{"my kitten is called Momo", "a lovely name"}, without...), with); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
