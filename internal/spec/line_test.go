package spec

import (
	"regexp"
	"testing"
)

// What broke: a model's name with a line break or an escape in it was stored, and refused by its endpoint only.
func TestAModelsNameIsALine(t *testing.T) {
	pattern := regexp.MustCompile(RuleLine.pattern())
	for s, want := range map[string]bool{
		"qwen-max": true, "vendor/model:7b": true, "a b": true, "Modell-ü": true,
		"": false, " ": false, "a\nb": false, "a\tb": false, "a\x00": false, "\x1b[31mred": false, "a\u0085b": false,
	} {
		if got := RuleLine.holds(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
		if got := pattern.MatchString(s); got != want {
			t.Errorf("%q by the schema's pattern: %v", s, got)
		}
	}
}
