package specfile

import (
	"strings"
	"testing"
)

// What broke: JSON nested deeper than the reader itself goes was called a bad character, without the limit.
func TestJSONNestedTooDeep(t *testing.T) {
	for _, depth := range []int{40, 20_000} {
		text := `{"a": ` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + "}"
		_, faults := parseJSON(newSource("a/model.json", text))
		if len(faults) != 1 || !strings.Contains(faults[0].Message, "nested too deep (at most 32)") {
			t.Errorf("%d: %v", depth, faults)
		}
	}
}
