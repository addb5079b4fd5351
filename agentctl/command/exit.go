package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/internal/errs"
)

// The exit codes: one closed set for every command.
const (
	exitOK          = 0
	exitNo          = 1
	exitFailure     = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitPermission  = 5
	exitUnreachable = 6
	exitTimeout     = 7
	exitUsage       = 64
	exitData        = 65
)

// exitMeaning is one row of the table that `agentctl help exit-codes` prints.
type exitMeaning struct {
	code int
	text string
}

// exitCodes is the table, in order.
func exitCodes() []exitMeaning {
	return []exitMeaning{
		{exitOK, "ok"},
		{exitNo, `the question's answer is "no": diff has differences, wait's condition can't come, apply --wait was refused or rolled back, can-i says no, audit verify finds a break`},
		{exitFailure, "any other failure"},
		{exitNotFound, "not found"},
		{exitConflict, "conflict: the revision moved, the content was refused before, or --force is needed"},
		{exitPermission, "permission or authentication"},
		{exitUnreachable, "server unreachable"},
		{exitTimeout, "timeout"},
		{exitUsage, "usage"},
		{exitData, "invalid input file"},
	}
}

// failure is an error with its exit code and a way out.
type failure struct {
	code int
	err  error
	hint string
	// silent: what there is to say has been said.
	silent bool
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// failf makes a failure; format may wrap with %w.
func failf(code int, hint, format string, args ...any) error {
	return &failure{code: code, err: fmt.Errorf(format, args...), hint: hint}
}

// usagef is a failure of the command line.
func usagef(format string, args ...any) error {
	return failf(exitUsage, "", format, args...)
}

// answered ends with code after everything was printed.
func answered(code int) error {
	if code == exitOK {
		return nil
	}
	return &failure{code: code, err: fmt.Errorf("exit %d", code), silent: true}
}

// exitCode gives the code of an error.
func exitCode(err error) int {
	var f *failure
	var c *connect.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &f):
		return f.code
	case errors.As(err, &c):
		return codeOfRPC(c.Code())
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	}
	switch errs.KindOf(err) {
	case errs.NotFound:
		return exitNotFound
	case errs.Conflict, errs.Precondition, errs.Exists:
		return exitConflict
	case errs.Unauthenticated, errs.Denied:
		return exitPermission
	case errs.Unavailable:
		return exitUnreachable
	case errs.Timeout:
		return exitTimeout
	case errs.Invalid:
		return exitUsage
	default:
		return exitFailure
	}
}

// codeOfRPC gives the exit code of a server's answer. Faults in files are told apart by faultsOf before.
func codeOfRPC(code connect.Code) int {
	switch code {
	case connect.CodeNotFound:
		return exitNotFound
	case connect.CodeAborted, connect.CodeAlreadyExists, connect.CodeFailedPrecondition:
		return exitConflict
	case connect.CodePermissionDenied, connect.CodeUnauthenticated:
		return exitPermission
	case connect.CodeUnavailable:
		return exitUnreachable
	case connect.CodeDeadlineExceeded:
		return exitTimeout
	case connect.CodeInvalidArgument:
		return exitUsage
	default:
		return exitFailure
	}
}

// report prints an error with its way out and gives the exit code.
func (c *cli) report(err error) int {
	code := exitCode(err)
	var f *failure
	if err == nil || (errors.As(err, &f) && f.silent) {
		return code
	}
	text := err.Error()
	var rpc *connect.Error
	if f == nil && errors.As(err, &rpc) {
		text = strings.Replace(text, rpc.Error(), rpc.Message(), 1)
	}
	_, _ = fmt.Fprintf(c.env.Stderr, "error: %s\n", lines(text))
	hint := ""
	switch {
	case f != nil:
		hint = f.hint
	case connect.CodeOf(err) == connect.CodePermissionDenied:
		hint = "agentctl whoami says who you are and what you may; agentctl login logs in as somebody else"
	case code == exitPermission:
		hint = "log in: agentctl login; or name a token with --token-file, AGENTCTL_TOKEN or AGENTRY_TOKEN_FILE; a control plane in dev mode keeps one as \"token\" in its data directory"
	}
	if hint != "" {
		_, _ = fmt.Fprintf(c.env.Stderr, "hint: %s\n", hint)
	}
	return code
}
