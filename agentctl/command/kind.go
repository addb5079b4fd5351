package command

import (
	"context"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
)

// The kinds, as the server names them.
const (
	kindAgent      = "agent"
	kindPrompt     = "prompt"
	kindMCP        = "mcp"
	kindCredential = "credential"
)

// kindWord is a word for a kind. A beginning of one that fits one kind only will do.
type kindWord struct{ word, kind string }

func kindWords() []kindWord {
	return []kindWord{
		{"agents", kindAgent},
		{"prompts", kindPrompt},
		{"mcpservers", kindMCP},
		{"mcp-servers", kindMCP},
		{"credentials", kindCredential},
	}
}

// parseKind reads a kind: agent, ag, prompts, pr, mcp, cred...
func parseKind(word string) (string, error) {
	var found []string
	lower := strings.ToLower(word)
	for _, k := range kindWords() {
		if lower != "" && strings.HasPrefix(k.word, lower) && !slices.Contains(found, k.kind) {
			found = append(found, k.kind)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", failf(exitUsage, "kinds: agent, prompt, mcp, credential", "unknown kind %q", word)
	default:
		return "", failf(exitUsage, "write more of it", "kind %q may be %s", word, strings.Join(found, " or "))
	}
}

// ref names one thing, perhaps at a version: KIND/NAME, KIND/NAME@VERSION, KIND/NAME:LABEL.
type ref struct{ kind, name, version string }

func (r ref) String() string {
	if r.version != "" {
		return r.kind + "/" + r.name + "@" + r.version
	}
	return r.kind + "/" + r.name
}

// parseRef reads a reference; without a kind before a slash it is of kind otherwise, or a usage fault if that is "".
func parseRef(text, otherwise string) (ref, error) {
	r := ref{kind: otherwise, name: text}
	if head, tail, ok := strings.Cut(text, "/"); ok {
		kind, err := parseKind(head)
		switch {
		case err == nil:
			r.kind, r.name = kind, tail
		case otherwise == "" || otherwise == kindAgent: // an agent's name has no slash
			return r, err
		}
	}
	if r.kind == "" {
		return r, failf(exitUsage, "such as agent/NAME or prompt/KEY@1.0.0", "%q is not KIND/NAME", text)
	}
	if i := strings.LastIndexAny(r.name, "@:"); i >= 0 {
		r.name, r.version = r.name[:i], r.name[i+1:]
	}
	if r.name == "" {
		return r, usagef("%q names nothing", text)
	}
	return r, nil
}

// parseRefs reads `KIND NAME...` or `KIND/NAME...`. A kind alone gives no refs.
func parseRefs(words []string) (kind string, refs []ref, err error) {
	if strings.Contains(words[0], "/") {
		for _, w := range words {
			r, err := parseRef(w, "")
			if err != nil {
				return "", nil, err
			}
			refs = append(refs, r)
		}
		return refs[0].kind, refs, nil
	}
	kind, err = parseKind(words[0])
	if err != nil {
		return "", nil, err
	}
	for _, w := range words[1:] {
		r, err := parseRef(kind+"/"+w, "")
		if err != nil {
			return "", nil, err
		}
		refs = append(refs, r)
	}
	return kind, refs, nil
}

// completer offers words after a command: with kind "" the kinds first, then names of the chosen one.
func (c *cli) completer(kind string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, words []string, typed string) ([]string, cobra.ShellCompDirective) {
		if head, _, ok := strings.Cut(typed, "/"); ok {
			if of, err := parseKind(head); err == nil {
				names := c.names(cmd.Context(), of)
				for i := range names {
					names[i] = head + "/" + names[i]
				}
				return names, cobra.ShellCompDirectiveNoFileComp
			}
		}
		if kind == "" && len(words) == 0 {
			return []string{kindAgent, kindPrompt, kindMCP, kindCredential}, cobra.ShellCompDirectiveNoFileComp
		}
		of := kind
		if of == "" {
			var err error
			if of, err = parseKind(words[0]); err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
		}
		return c.names(cmd.Context(), of), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeNames completes one argument with the names that ask gives; none where the server doesn't answer at once.
func (c *cli) completeNames(ask func(context.Context, *client) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, words []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(words) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		cl, err := c.connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
		defer cancel()
		return ask(ctx, cl), cobra.ShellCompDirectiveNoFileComp
	}
}

// names asks the server for the names of a kind; none where it doesn't answer at once.
func (c *cli) names(ctx context.Context, kind string) []string {
	cl, err := c.connect()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	resp, err := cl.spec.List(ctx, connect.NewRequest(&specv1.ListRequest{Namespace: cl.namespace, Kind: kind}))
	if err != nil {
		return nil
	}
	var names []string
	for _, o := range resp.Msg.GetObjects() {
		names = append(names, o.GetName())
	}
	return names
}
