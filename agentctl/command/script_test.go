package command_test

import (
	"context"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/agentry/agentry/agentctl/command"
	"github.com/agentry/agentry/agentctl/command/commandtest"
	"github.com/agentry/agentry/internal/scriptmodel"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"agentctl": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			code := command.Run(ctx, command.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}, os.Args[1:])
			stop()
			os.Exit(code)
		},
	})
}

// TestScripts runs testdata/script/*.txtar. Besides the usual verbs there are:
//
//	fake DIR [TOKEN]    a control plane that answers from DIR/*.json; AGENTCTL_SERVER names it, $PLAIN is its HOST:PORT
//	securefake DIR      the same over TLS; its authority is in $WORK/ca.pem, and $SECURE is its HOST:PORT
//	door DIR            an instance's HTTP door: DIR/answers.yaml, DIR/config.json, DIR/status; $DOOR names it. DIR/approvals.json is what
//	                    waits there, what is decided is noted in DIR/decided.json, and DIR/key is what an approver must show
//	a2a [stream] [key=KEY]   an A2A agent whose first interface doesn't answer; $AGENT names it, $AGENT_HOST is its HOST:PORT
//	awaited WHAT        wait until that agent is polled about a slow task ("arrived"), or it was "canceled"
//	code N COMMAND...   run COMMAND and insist on exit code N
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "config"))
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"fake": fake, "securefake": secureFake, "door": door, "code": code, "a2a": a2aAgent, "awaited": awaited},
	})
}

func fake(ts *testscript.TestScript, _ bool, args []string) {
	token := ""
	if len(args) > 1 {
		token = args[1]
	}
	s := commandtest.New(ts.MkAbs(args[0]), token, "${DOOR}", ts.Getenv("DOOR"))
	hs := httptest.NewServer(s.Handler())
	ts.Defer(hs.Close)
	ts.Setenv("AGENTCTL_SERVER", hs.URL)
	ts.Setenv("PLAIN", hs.Listener.Addr().String())
}

func secureFake(ts *testscript.TestScript, _ bool, args []string) {
	hs := httptest.NewUnstartedServer(commandtest.New(ts.MkAbs(args[0]), "").Handler())
	hs.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // that a client doesn't trust it is what is tested
	hs.StartTLS()
	ts.Defer(hs.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hs.Certificate().Raw})
	ts.Check(os.WriteFile(ts.MkAbs("ca.pem"), ca, 0o600))
	ts.Setenv("AGENTCTL_SERVER", hs.URL)
	ts.Setenv("SECURE", hs.Listener.Addr().String())
}

func door(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	script, err := scriptmodel.ParseScript([]byte(ts.ReadFile(filepath.Join(dir, "answers.yaml"))))
	ts.Check(err)
	model := scriptmodel.New(script)
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Agentry-Revision", "8")
		w.Header().Set("X-Agentry-Config", "8-3f2a91c4")
		model.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /admin/config", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(dir, "config.json"))
	})
	desk(ts, mux, dir)
	hs := httptest.NewServer(mux)
	ts.Defer(func() { model.Close(); hs.Close() })
	ts.Setenv("DOOR", hs.URL)
}

// code judges the exit code, of which testscript itself knows only "not 0".
func code(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
