package strategy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"":                        nil,
		"Hello, WORLD! 4-2":       {"hello", "world", "4", "2"},
		"naïve café":              {"naïve", "café"},
		"退款流程":                    {"退款", "款流", "流程"},
		"用 Go 語言v2":               {"用", "go", "語言", "v2"},
		"\x00\xff\xfe ok":         {"ok"},
		"it's server__tool_name.": {"it", "s", "server", "tool", "name"},
	} {
		if diff := cmp.Diff(want, words(in)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", in, diff)
		}
	}
}

func TestQuantise(t *testing.T) {
	t.Parallel()
	a, b, c := quantise([]float32{1, 0, -1}), quantise([]float32{2, 0, -2}), quantise([]float32{-1, 0, 1})
	if got := cosine(a, b); got < 0.999 {
		t.Errorf("the same direction: %v", got)
	}
	if got := cosine(a, c); got > -0.999 {
		t.Errorf("the opposite direction: %v", got)
	}
	if got := cosine(a, quantise([]float32{0, 1, 0})); got != 0 {
		t.Errorf("a right angle: %v", got)
	}
}
