package command

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/spec"
)

// schema is what explain reads of a JSON Schema.
type schema struct {
	Ref         string             `json:"$ref"`
	Defs        map[string]*schema `json:"$defs"`
	Type        any                `json:"type"`
	Title       string             `json:"title"`
	Description string             `json:"description"`
	Default     json.RawMessage    `json:"default"`
	Enum        []any              `json:"enum"`
	Const       json.RawMessage    `json:"const"`
	Minimum     *float64           `json:"minimum"`
	Maximum     *float64           `json:"maximum"`
	Pattern     string             `json:"pattern"`
	Required    []string           `json:"required"`
	Properties  map[string]*schema `json:"properties"`
	Items       *schema            `json:"items"`
	Additional  json.RawMessage    `json:"additionalProperties"`
	AnyOf       []*schema          `json:"anyOf"`
	OneOf       []*schema          `json:"oneOf"`
}

func (c *cli) explainCmd() *cobra.Command {
	var recursive bool
	cmd := &cobra.Command{
		Use: "explain KIND[.path]", Short: "Fields of a file, from the schema that the server validates with",
		Example: "  agentctl explain model\n  agentctl explain agent.release.onReject\n  agentctl explain mcp --recursive", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, words []string) error {
			word, path, _ := strings.Cut(words[0], ".")
			kind := word
			if full, err := parseKind(word); err == nil && word != "mcp-servers" { // that one is a file of an agent too
				kind = full
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			resp, err := cl.spec.Schema(cmd.Context(), connect.NewRequest(&specv1.SchemaRequest{Kind: kind}))
			if connect.CodeOf(err) == connect.CodeNotFound {
				return failf(exitNotFound, "kinds: "+strings.Join(spec.Kinds(), ", "), "explain: unknown kind %q", kind)
			}
			if err != nil {
				return fmt.Errorf("explain %s: %w", kind, err)
			}
			root := &schema{}
			if err := json.Unmarshal([]byte(resp.Msg.GetJsonSchema()), root); err != nil {
				return fmt.Errorf("explain %s: read the schema: %w", kind, err)
			}
			e := explainer{root: root}
			at := e.resolve(root)
			if path != "" {
				for name := range strings.SplitSeq(path, ".") {
					next := e.child(at, strings.TrimSuffix(name, "[]"))
					if next == nil {
						return failf(exitNotFound, "agentctl explain "+kind, "%s has no field %q", words[0], name)
					}
					at = next
				}
			}
			e.describe(words[0], at)
			e.fields(at, 1, recursive)
			_, err = c.env.Stdout.Write([]byte(e.b.String()))
			return err
		},
	}
	cmd.Flags().BoolVar(&recursive, "recursive", false, "fields of fields too")
	return cmd
}

type explainer struct {
	root *schema
	b    strings.Builder
}

// resolve follows a reference into the root's definitions, and a single alternative.
func (e *explainer) resolve(s *schema) *schema {
	for range 16 { // a loop of references ends
		name, ok := strings.CutPrefix(s.Ref, "#/$defs/")
		if !ok || e.root.Defs[name] == nil {
			return s
		}
		s = e.root.Defs[name]
	}
	return s
}

// inner gives the schema that has the properties: of a list its items', of a choice the first with any.
func (e *explainer) inner(s *schema) *schema {
	s = e.resolve(s)
	for range 16 {
		switch {
		case s.Properties != nil:
			return s
		case s.Items != nil:
			s = e.resolve(s.Items)
		default:
			next := e.choice(s)
			if next == nil {
				return s
			}
			s = next
		}
	}
	return s
}

func (e *explainer) choice(s *schema) *schema {
	for _, alt := range append(slices.Clone(s.AnyOf), s.OneOf...) {
		if alt = e.resolve(alt); alt.Properties != nil || alt.Items != nil {
			return alt
		}
	}
	values := &schema{}
	if len(s.Additional) > 0 && s.Additional[0] == '{' && json.Unmarshal(s.Additional, values) == nil {
		if values = e.resolve(values); values.Properties != nil || values.Items != nil {
			return values
		}
	}
	return nil
}

func (e *explainer) child(s *schema, name string) *schema {
	if c := e.inner(s).Properties[name]; c != nil {
		return e.resolve(c)
	}
	return nil
}

func (e *explainer) describe(name string, s *schema) {
	fmt.Fprintf(&e.b, "%s %s\n", name, e.summary(s))
	if s.Description != "" {
		fmt.Fprintf(&e.b, "  %s\n", s.Description)
	}
}

// summary gives type, range and default in brackets.
func (e *explainer) summary(s *schema) string {
	words := []string{e.typeOf(s)}
	if s.Minimum != nil {
		words = append(words, fmt.Sprintf("from %v", *s.Minimum))
	}
	if s.Maximum != nil {
		words = append(words, fmt.Sprintf("to %v", *s.Maximum))
	}
	if len(s.Enum) > 0 {
		words = append(words, fmt.Sprintf("one of %v", s.Enum))
	}
	if len(s.Default) > 0 {
		words = append(words, "default "+string(s.Default))
	}
	return "<" + strings.Join(words, ", ") + ">"
}

func (e *explainer) typeOf(s *schema) string {
	switch {
	case s.Items != nil:
		return "list of " + e.typeOf(e.resolve(s.Items))
	case s.Type != nil:
		return fmt.Sprint(s.Type)
	case len(s.AnyOf)+len(s.OneOf) > 0:
		var kinds []string
		for _, alt := range append(slices.Clone(s.AnyOf), s.OneOf...) {
			kinds = append(kinds, e.typeOf(e.resolve(alt)))
		}
		return strings.Join(kinds, " or ")
	default:
		return "any"
	}
}

// fields lists the fields of s, required ones marked.
func (e *explainer) fields(s *schema, depth int, recursive bool) {
	if depth > 12 {
		return
	}
	in := e.inner(s)
	for _, name := range slices.Sorted(maps.Keys(in.Properties)) {
		f := e.resolve(in.Properties[name])
		mark := ""
		if slices.Contains(in.Required, name) {
			mark = ", required"
		}
		text := strings.Repeat("  ", depth) + name + " " + strings.TrimSuffix(e.summary(f), ">") + mark + ">"
		if f.Description != "" {
			text += "  " + f.Description
		}
		e.b.WriteString(text + "\n")
		if recursive && f != s {
			e.fields(f, depth+1, recursive)
		}
	}
}
