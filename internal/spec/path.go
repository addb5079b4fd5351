package spec

import (
	"regexp"
	"strconv"
	"strings"
)

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_$-]+$`)

// Child gives the JSON path of a field below path. A name with other characters than letters, digits, "_", "$" and "-" is
// quoted: headers["a.b"].
func Child(path, name string) string {
	switch {
	case !plainKey.MatchString(name):
		return path + "[" + strconv.Quote(name) + "]"
	case path == "":
		return name
	default:
		return path + "." + name
	}
}

// Index gives the JSON path of an element below path.
func Index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// Step is one step of a JSON path: a field's name, or an element's index when Name is "" and IsIndex is true.
type Step struct {
	Name    string
	Index   int
	IsIndex bool
}

// SplitPath reads a path written by Child and Index. What it can't read ends the answer early.
func SplitPath(path string) []Step {
	var steps []Step
	for path != "" {
		switch {
		case strings.HasPrefix(path, `["`):
			quoted, err := strconv.QuotedPrefix(path[1:])
			if err != nil || !strings.HasPrefix(path[1+len(quoted):], "]") {
				return steps
			}
			name, _ := strconv.Unquote(quoted)
			steps = append(steps, Step{Name: name})
			path = path[len(quoted)+2:]
		case path[0] == '[':
			end := strings.IndexByte(path, ']')
			if end < 0 {
				return steps
			}
			i, err := strconv.Atoi(path[1:end])
			if err != nil {
				return steps
			}
			steps = append(steps, Step{Index: i, IsIndex: true})
			path = path[end+1:]
		default:
			path = strings.TrimPrefix(path, ".")
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			if end == 0 {
				return steps
			}
			steps = append(steps, Step{Name: path[:end]})
			path = path[end:]
		}
	}
	return steps
}
