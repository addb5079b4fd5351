package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/errs"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	rpc := func(c connect.Code) error {
		return fmt.Errorf("apply: %w", connect.NewError(c, errors.New("said so")))
	}
	cases := map[string]struct {
		err  error
		want int
	}{
		"none":                  {nil, 0},
		"no":                    {answered(exitNo), 1},
		"anything":              {errors.New("x"), 2},
		"internal":              {rpc(connect.CodeInternal), 2},
		"unknown":               {rpc(connect.CodeUnknown), 2},
		"unimplemented":         {rpc(connect.CodeUnimplemented), 2},
		"exhausted":             {rpc(connect.CodeResourceExhausted), 2},
		"out of range":          {rpc(connect.CodeOutOfRange), 2},
		"not found":             {rpc(connect.CodeNotFound), 3},
		"aborted":               {rpc(connect.CodeAborted), 4},
		"exists":                {rpc(connect.CodeAlreadyExists), 4},
		"precondition":          {rpc(connect.CodeFailedPrecondition), 4},
		"denied":                {rpc(connect.CodePermissionDenied), 5},
		"unauthenticated":       {rpc(connect.CodeUnauthenticated), 5},
		"unavailable":           {rpc(connect.CodeUnavailable), 6},
		"deadline":              {rpc(connect.CodeDeadlineExceeded), 7},
		"own deadline":          {fmt.Errorf("wait: %w", context.DeadlineExceeded), 7},
		"argument":              {rpc(connect.CodeInvalidArgument), 64},
		"usage":                 {usagef("x"), 64},
		"file":                  {failf(exitData, "", "x"), 65},
		"wrapped failure":       {fmt.Errorf("y: %w", failf(exitTimeout, "", "x")), 7},
		"kind not found":        {errs.New(errs.NotFound, "x"), 3},
		"kind conflict":         {errs.New(errs.Conflict, "x"), 4},
		"kind denied":           {errs.New(errs.Denied, "x"), 5},
		"kind unavailable":      {errs.New(errs.Unavailable, "x"), 6},
		"kind timeout":          {errs.New(errs.Timeout, "x"), 7},
		"kind invalid":          {errs.New(errs.Invalid, "x"), 64},
		"cancelled by a signal": {context.Canceled, 2},
	}
	documented := map[int]bool{}
	for _, e := range exitCodes() {
		documented[e.code] = true
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := exitCode(tc.err); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
			if !documented[tc.want] {
				t.Errorf("%d is not in the table", tc.want)
			}
		})
	}
}

func TestTableOfExitCodes(t *testing.T) {
	t.Parallel()
	var got []int
	for _, e := range exitCodes() {
		got = append(got, e.code)
	}
	if diff := cmp.Diff([]int{0, 1, 2, 3, 4, 5, 6, 7, 64, 65}, got); diff != "" {
		t.Errorf("the frozen set (-want +got):\n%s", diff)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		err  error
		want string
	}{
		"hint":   {failf(2, "do that", "this broke"), "error: this broke\nhint: do that\n"},
		"silent": {answered(1), ""},
		"denied": {connect.NewError(connect.CodePermissionDenied, errors.New("no")), "error: no\nhint: agentctl whoami says who you are and what you may; agentctl login logs in as somebody else\n"},
		"stranger": {
			connect.NewError(connect.CodeUnauthenticated, errors.New("who?")),
			"error: who?\nhint: log in: agentctl login; or name a token with --token-file, AGENTCTL_TOKEN or AGENTRY_TOKEN_FILE; " +
				"a control plane in dev mode keeps one as \"token\" in its data directory\n",
		},
		"rpc": {fmt.Errorf("get agent/x: %w", connect.NewError(connect.CodeNotFound, errors.New("no agent \"x\""))), "error: get agent/x: no agent \"x\"\n"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			c := &cli{env: Env{Stderr: &b}}
			c.report(tc.err)
			if diff := cmp.Diff(tc.want, b.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestEveryCommandShowsExamples holds the habits: an example first, and the flags of mutating commands.
func TestEveryCommandShowsExamples(t *testing.T) {
	t.Parallel()
	c := &cli{env: Env{Stdin: strings.NewReader(""), Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}, Getenv: func(string) string { return "" }}}
	root := c.root()
	want := []string{
		"apply", "audit", "binding", "can-i", "completion", "config", "context", "credential", "delete", "describe", "diff", "events", "explain", "export",
		"get", "history", "identity", "invoke", "login", "logout", "mcp", "model", "prompt", "role", "rollback", "rollout", "status", "token", "up", "validate", "version",
		"wait", "whoami",
	}
	for _, cmd := range root.Commands() {
		if cmd.Example == "" || cmd.Short == "" {
			t.Errorf("%s: no example or no short text", cmd.Name())
		}
		below := cmd.Commands()
		for len(below) > 0 {
			sub := below[0]
			below = append(below[1:], sub.Commands()...)
			if sub.Example == "" || sub.Short == "" {
				t.Errorf("%s: no example or no short text", sub.CommandPath())
			}
		}
		want = slices.DeleteFunc(want, func(n string) bool { return n == cmd.Name() })
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	for _, name := range []string{"apply", "delete", "rollback"} {
		cmd, _, err := root.Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		for _, flag := range []string{"dry-run", "check-revision", "message"} {
			if cmd.Flags().Lookup(flag) == nil {
				t.Errorf("%s has no --%s", name, flag)
			}
		}
	}
}
