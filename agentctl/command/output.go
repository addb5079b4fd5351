package command

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// output is the form that -o asks for: "" and "table", "wide", "name", "json", "yaml", "jsonpath=TEMPLATE".
type output string

func (o *output) bind(cmd *cobra.Command) {
	cmd.Flags().StringVarP((*string)(o), "output", "o", "", "table, wide, name, json, yaml or jsonpath=TEMPLATE")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "wide", "name", "json", "yaml", "jsonpath="}, cobra.ShellCompDirectiveNoFileComp))
}

// check refuses a form that doesn't exist, before anything is asked of the server.
func (o output) check() error {
	switch {
	case o == "", o == "table", o == "wide", o == "name", o == "json", o == "yaml":
		return nil
	case strings.HasPrefix(string(o), "jsonpath="):
		_, err := parseJSONPath(strings.TrimPrefix(string(o), "jsonpath="))
		return err
	default:
		return usagef("-o %s: not a form (table, wide, name, json, yaml, jsonpath=TEMPLATE)", string(o))
	}
}

// machine reports whether the output is a document for programs.
func (o output) machine() bool {
	return o == "json" || o == "yaml" || strings.HasPrefix(string(o), "jsonpath=")
}

// print writes doc or its table to stdout, by the form asked for.
func (c *cli) print(o output, doc any, t table) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.machine() {
		return printDoc(c.env.Stdout, o, doc)
	}
	if o == "name" || c.flags.quiet {
		for _, r := range t.rows {
			_, _ = fmt.Fprintln(c.env.Stdout, r.name)
		}
		return nil
	}
	t.wide, t.noHead, t.colour = o == "wide", c.flags.noHeaders, c.colour(c.env.Stdout)
	if len(t.rows) == 0 && t.empty != "" {
		_, err := fmt.Fprintln(c.env.Stderr, t.empty)
		return err
	}
	return t.write(c.env.Stdout)
}

// printDoc writes one document.
func printDoc(w io.Writer, o output, doc any) error {
	b, err := encode(doc, "  ")
	if err != nil {
		return err
	}
	if template, ok := strings.CutPrefix(string(o), "jsonpath="); ok {
		path, err := parseJSONPath(template)
		if err != nil {
			return err
		}
		var v any
		if err := json.Unmarshal(b, &v); err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, path.eval(v))
		return err
	}
	if o == "yaml" {
		if b, err = yaml.JSONToYAML(b); err != nil {
			return err
		}
	}
	_, err = w.Write(b)
	return err
}

// printLine writes one document as one line: the form of -w.
func printLine(w io.Writer, doc any) error {
	b, err := encode(doc, "")
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// encode gives JSON with a line break at its end; people's text is not escaped for HTML. DEL and the control characters of C1, which JSON lets stand and
// terminals obey, are escaped: readers get the same text.
func encode(doc any, indent string) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	err := enc.Encode(doc)
	return []byte(controls(b.String())), err
}

func controls(text string) string {
	steers := func(r rune) bool { return r >= 0x7f && r <= 0x9f }
	if !strings.ContainsFunc(text, steers) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if steers(r) {
			_, _ = fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// note prints a message for people; it never mixes with data.
func (c *cli) note(format string, values ...any) {
	_, _ = fmt.Fprintln(c.env.Stderr, lines(fmt.Sprintf(format, values...)))
}
