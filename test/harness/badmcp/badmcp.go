// Package badmcp is an MCP server that misbehaves on purpose, in a process of its own: this program, started again by Start. A program that
// starts one calls Main first thing; it never ends up in the product.
package badmcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// What the server's one tool, "do", does, by its argument "mode".
const (
	OK    = "ok"
	Hang  = "hang"  // never answers
	Late  = "late"  // answers after LateAfter
	Huge  = "huge"  // answers with HugeBytes of text
	Exit  = "exit"  // the process ends before it answers
	Flood = "flood" // sends notifications for ever, and no answer
)

// LateAfter is longer than the timeout that a test gives a call, HugeBytes more than anybody should read.
const (
	LateAfter = 3 * time.Second
	HugeBytes = 100 << 20
)

const listenVar = "AGENTRY_BADMCP_LISTEN"

// Main serves and never returns in the process that Start made; elsewhere it does nothing.
func Main() {
	addr := os.Getenv(listenVar)
	if addr == "" {
		return
	}
	s := &http.Server{Addr: addr, Handler: http.HandlerFunc(handle), ReadHeaderTimeout: 10 * time.Second}
	fmt.Fprintln(os.Stderr, "badmcp:", s.ListenAndServe())
	os.Exit(1)
}

// Server is the process.
type Server struct {
	URL  string
	addr string
	cmd  *exec.Cmd
	done chan struct{}
}

// New prepares a server at a loopback address; Start starts it.
func New(addr string) *Server { return &Server{URL: "http://" + addr + "/mcp", addr: addr} }

// Start starts the process, again after it ended.
func (s *Server) Start() error {
	cmd := exec.Command("/proc/self/exe") //nolint:noctx // Kill ends it
	cmd.Env = append(os.Environ(), listenVar+"="+s.addr)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	s.cmd, s.done = cmd, done
	return nil
}

// Done is closed when the process ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// Kill ends it by SIGKILL and waits.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.done
}

func handle(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params struct {
			Version   string `json:"protocolVersion"`
			Arguments struct {
				Mode string `json:"mode"`
			} `json:"arguments"`
		} `json:"params"`
	}
	body, err := io.ReadAll(r.Body)
	switch {
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case err != nil || json.Unmarshal(body, &in) != nil:
		w.WriteHeader(http.StatusBadRequest)
		return
	case len(in.ID) == 0:
		w.WriteHeader(http.StatusAccepted)
		return
	}
	result := "{}"
	switch in.Method {
	case "initialize":
		result = fmt.Sprintf(`{"protocolVersion":%q,"capabilities":{"tools":{}},"serverInfo":{"name":"bad","version":"1"}}`, in.Params.Version)
	case "tools/list":
		result = `{"tools":[{"name":"do","description":"Does what mode says.","inputSchema":{"type":"object","properties":{"mode":{"type":"string"}},"required":["mode"]}}]}`
	case "tools/call":
		if err := act(w, r, in.ID, in.Params.Arguments.Mode); err != nil {
			return
		}
		result = fmt.Sprintf(`{"content":[{"type":"text","text":"did %s"}]}`, in.Params.Arguments.Mode)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, in.ID, result)
}

var errAnswered = errors.New("answered, or left")

// act does what the mode says; nil: the answer is an ordinary one.
func act(w http.ResponseWriter, r *http.Request, id json.RawMessage, mode string) error {
	switch mode {
	case Hang:
		<-r.Context().Done()
		return errAnswered
	case Exit:
		os.Exit(3)
	case Late:
		select {
		case <-time.After(LateAfter):
		case <-r.Context().Done():
		}
	case Huge:
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"`, id)
		block := bytes.Repeat([]byte("x"), 1<<20)
		for range HugeBytes / len(block) {
			if _, err := w.Write(block); err != nil {
				return errAnswered
			}
		}
		_, _ = io.WriteString(w, `"}]}}`)
		return errAnswered
	case Flood:
		w.Header().Set("Content-Type", "text/event-stream")
		note := []byte("data: " + `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"` + strings.Repeat("x", 1000) + `"}}` + "\n\n")
		for r.Context().Err() == nil {
			if _, err := w.Write(note); err != nil {
				break
			}
		}
		return errAnswered
	}
	return nil
}
