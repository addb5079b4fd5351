package spec

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxShown bounds how much of a wrong value a fault repeats.
const maxShown = 60

const wantObject = "an object"

// Check compares a document (as encoding/json gives it with UseNumber) with a table: unknown fields, types, ranges, required
// fields. It answers every fault with its path, and a copy of the document in which faulty parts are missing and
// absent fields have their defaults.
func Check(doc map[string]any, fields []Field) (map[string]any, []Fault) {
	c := &checker{}
	return c.object(doc, fields, "", 1), c.faults
}

type checker struct{ faults []Fault }

func (c *checker) fault(path, format string, args ...any) {
	c.faults = append(c.faults, Fault{Path: path, Message: fmt.Sprintf(format, args...)})
}

func (c *checker) object(doc map[string]any, fields []Field, path string, depth int) map[string]any {
	clean := make(map[string]any, len(fields))
	for _, name := range slices.Sorted(maps.Keys(doc)) {
		f, ok := find(fields, name)
		if !ok {
			c.faults = append(c.faults, unknown(Child(path, name), name, names(fields)))
			continue
		}
		if v, ok := c.value(f, doc[name], Child(path, name), depth); ok {
			clean[name] = v
		}
	}
	for _, f := range fields {
		if _, given := doc[f.Name]; given {
			continue
		}
		if f.Required {
			c.fault(Child(path, f.Name), "is missing (%s)", f.allowed())
		} else if f.Default != "" {
			clean[f.Name] = json.RawMessage(f.Default)
		}
	}
	return clean
}

// unknown makes the fault of a field that isn't in the table.
func unknown(path, name string, known []string) Fault {
	f := Fault{Path: path, Message: "unknown field", AtKey: true}
	if near, ok := Nearest(name, known); ok {
		f.Hint = "did you mean " + near + "?"
	} else {
		f.Hint = "known here: " + strings.Join(known, ", ")
	}
	return f
}

func (c *checker) value(f Field, v any, path string, depth int) (any, bool) {
	if depth > MaxDepth {
		c.fault(path, "is nested too deep (at most %d)", MaxDepth)
		return nil, false
	}
	if v == nil && f.Type != TypeAny {
		c.fault(path, "is null (leave the field out for its default)")
		return nil, false
	}
	switch f.Type {
	case TypeObject:
		switch x := v.(type) {
		case map[string]any:
			return c.object(x, f.Fields, path, depth+1), true
		case string:
			if short, ok := find(f.Fields, f.Short); ok {
				return x, c.text(short, x, path)
			}
		case bool:
			if f.Switch {
				return x, true
			}
		}
	case TypeMap:
		if m, ok := v.(map[string]any); ok {
			return c.mapping(f, m, path, depth)
		}
	case TypeList:
		if l, ok := v.([]any); ok {
			return c.list(f, l, path, depth)
		}
	case TypeAny:
		return v, c.free(v, path, depth)
	case TypeValue:
		return v, c.secretValue(v, path)
	default:
		return c.scalar(f, v, path)
	}
	c.wrongType(f, v, path)
	return nil, false
}

func (c *checker) wrongType(f Field, v any, path string) {
	c.fault(path, "is %s, must be %s", kindOf(v), f.allowed())
	if _, number := v.(json.Number); number && (f.Type == TypeString || f.Type == TypeValue || f.Type == TypeDuration) {
		c.faults[len(c.faults)-1].Hint = "write it in quotes"
	}
}

func (c *checker) mapping(f Field, m map[string]any, path string, depth int) (any, bool) {
	if f.MaxItems > 0 && len(m) > f.MaxItems {
		c.fault(path, "has %d entries (at most %d are allowed)", len(m), f.MaxItems)
		return nil, false
	}
	clean := make(map[string]any, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		at := Child(path, name)
		if !f.Keys.holds(name) {
			c.faults = append(c.faults, Fault{Path: at, Message: "this name is not allowed (allowed: " + string(f.Keys) + ")", AtKey: true})
			continue
		}
		if v, ok := c.value(*f.Item, m[name], at, depth+1); ok {
			clean[name] = v
		}
	}
	return clean, true
}

func (c *checker) list(f Field, l []any, path string, depth int) (any, bool) {
	if f.MaxItems > 0 && len(l) > f.MaxItems {
		c.fault(path, "has %d entries (at most %d are allowed)", len(l), f.MaxItems)
		return nil, false
	}
	clean := make([]any, 0, len(l))
	for i := range l {
		v, ok := c.value(*f.Item, l[i], Index(path, i), depth+1)
		if !ok && f.Item.Type == TypeObject && f.Item.Short == "" {
			v = map[string]any{} // keeps the indexes of the others, so that later faults point right
		} else if !ok {
			v = ""
		}
		clean = append(clean, v)
	}
	return clean, true
}

func (c *checker) scalar(f Field, v any, path string) (any, bool) {
	switch x := v.(type) {
	case string:
		if f.Type == TypeString || f.Type == TypeDuration {
			return x, c.text(f, x, path)
		}
	case bool:
		if f.Type == TypeBoolean {
			return x, true
		}
	case json.Number:
		if f.Type == TypeInteger || f.Type == TypeNumber {
			return x, c.number(f, x, path)
		}
	}
	c.wrongType(f, v, path)
	return nil, false
}

func (c *checker) text(f Field, s, path string) bool {
	if f.Type == TypeDuration {
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			c.fault(path, "is no duration above zero (allowed: such as \"30s\", \"2m\")")
			return false
		}
		return true
	}
	if len(f.Enum) > 0 && !slices.Contains(f.Enum, s) {
		c.fault(path, "%s is not allowed (allowed: %s)", shown(s), strings.Join(f.Enum, ", "))
		if near, ok := Nearest(s, f.Enum); ok {
			c.faults[len(c.faults)-1].Hint = "did you mean " + near + "?"
		}
		return false
	}
	if !f.Rule.holds(s) {
		switch {
		case s == "":
			c.fault(path, "is empty (allowed: %s)", f.Rule)
		case f.Rule == RuleURL || f.Rule == RuleNonEmpty || f.Rule == RuleRedis: // an address may hold a key
			c.fault(path, "is not allowed (allowed: %s)", f.Rule)
		default:
			c.fault(path, "%s is not allowed (allowed: %s)", shown(s), f.Rule)
		}
		return false
	}
	return true
}

func (c *checker) number(f Field, n json.Number, path string) bool {
	if !c.exact(n, path) {
		return false
	}
	if f.Type == TypeInteger {
		if _, err := strconv.ParseInt(n.String(), 10, 64); err != nil {
			c.fault(path, "%s is not a whole number (allowed: %s)", shown(n.String()), f.allowed())
			return false
		}
	}
	v, _ := n.Float64()
	if (f.Min != nil && v < *f.Min) || (f.Max != nil && v > *f.Max) {
		c.fault(path, "%s is out of range (allowed: %s)", n, f.allowed())
		return false
	}
	return true
}

// exact refuses numbers that canonical JSON would change (semantics.md 2).
func (c *checker) exact(n json.Number, path string) bool {
	if err := exactNumber(n.String()); err != nil {
		c.fault(path, "%s", err)
		return false
	}
	return true
}

func exactNumber(n string) error {
	f, err := strconv.ParseFloat(n, 64)
	if err != nil {
		return fmt.Errorf("%s is too great a number", shown(n))
	}
	if strings.ContainsAny(n, ".eE") && math.Abs(f) <= MaxInteger {
		return nil // 1e20 is a whole number too, and its canonical form has all digits
	}
	if i, err := strconv.ParseInt(n, 10, 64); err != nil || i > MaxInteger || i < -MaxInteger {
		return fmt.Errorf("%s is beyond 2^53 = %d, where JSON readers differ", shown(n), int64(MaxInteger))
	}
	return nil
}

// free checks any JSON: its numbers and its depth.
func (c *checker) free(v any, path string, depth int) bool {
	if depth > MaxDepth {
		c.fault(path, "is nested too deep (at most %d)", MaxDepth)
		return false
	}
	good := true
	switch x := v.(type) {
	case json.Number:
		good = c.exact(x, path)
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(x)) {
			good = c.free(x[name], Child(path, name), depth+1) && good
		}
	case []any:
		for i := range x {
			good = c.free(x[i], Index(path, i), depth+1) && good
		}
	}
	return good
}

// secretValue never repeats the value.
func (c *checker) secretValue(v any, path string) bool {
	switch x := v.(type) {
	case string:
		if strings.ContainsAny(x, "\r\n\x00") {
			c.fault(path, "holds a line break, which no header or key may")
			return false
		}
		return true
	case map[string]any:
		if ref, ok := x["credentialRef"].(string); ok && len(x) == 1 {
			if !ValidName(ref) {
				c.fault(Child(path, "credentialRef"), "is not allowed (allowed: %s)", RuleName)
				return false
			}
			return true
		}
		for _, name := range slices.Sorted(maps.Keys(x)) {
			if name != "credentialRef" {
				c.faults = append(c.faults, unknown(Child(path, name), name, []string{"credentialRef"}))
				return false
			}
		}
	case json.Number:
		c.wrongType(Field{Type: TypeValue}, v, path)
		return false
	}
	c.fault(path, "is %s, %s", kindOf(v), wantValue)
	return false
}

// allowed says what a field takes, for people.
func (f Field) allowed() string {
	switch {
	case f.Switch:
		return article(TypeBoolean) + ", or " + wantObject
	case f.Short != "":
		return "a string, or " + wantObject
	case len(f.Enum) > 0:
		return strings.Join(f.Enum, ", ")
	case f.Min != nil && f.Max != nil:
		return fmt.Sprintf("%s from %s to %s", article(f.Type), plain(*f.Min), plain(*f.Max))
	case f.Min != nil:
		return fmt.Sprintf("%s from %s", article(f.Type), plain(*f.Min))
	case f.Rule != RuleNone:
		return string(f.Rule)
	default:
		return article(f.Type)
	}
}

// plain writes a bound with all its digits.
func plain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func article(t Type) string {
	switch t {
	case TypeInteger:
		return "a whole number"
	case TypeNumber:
		return "a number"
	case TypeBoolean:
		return "true or false"
	case TypeDuration:
		return "a duration such as \"30s\""
	case TypeValue:
		return `a string or {"credentialRef": "name"}`
	case TypeObject, TypeMap:
		return wantObject
	case TypeList:
		return "a list"
	case TypeAny:
		return "any JSON"
	default:
		return "a string"
	}
}

func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "true or false"
	case json.Number, float64, int64, int:
		return "a number"
	case map[string]any:
		return wantObject
	case []any:
		return "a list"
	default:
		return "something else"
	}
}

// shown quotes a value, shortened to what helps to find it; what looks like a secret is not repeated.
func shown(s string) string {
	if LooksSecret(s) {
		return "this value"
	}
	if r := []rune(s); len(r) > maxShown {
		s = string(r[:maxShown]) + "..."
	}
	return strconv.Quote(s)
}
