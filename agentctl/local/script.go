package local

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/agentry/agentry/internal/scriptmodel"
)

// script is the scripted model server of this run.
type script struct {
	source string // where its answers come from
	script scriptmodel.Script
	ln     net.Listener
	url    string
}

// newScript answers nil when no agent needs it.
func newScript(cfg Config, e extras) (*script, error) {
	file := cfg.Script
	if file == "" {
		needed := false
		for _, a := range cfg.Agents {
			needed = needed || !a.HasModel
		}
		if !needed || cfg.ModelBaseURL != "" {
			return nil, nil //nolint:nilnil // there is none, and that is no error
		}
		if e.Script != "" {
			file = filepath.Join(cfg.Dir, e.Script)
		}
	}
	s := &script{source: "a built-in script", script: scriptmodel.DefaultScript()}
	if file != "" {
		b, err := os.ReadFile(file) //nolint:gosec // the user names the file
		if err != nil {
			return nil, usage("", "script: %w", err)
		}
		parsed, err := scriptmodel.ParseScript(b)
		if err != nil {
			return nil, usage("see examples/nacos-helper/model-script.yaml", "%s: %w", file, err)
		}
		s.source, s.script = file, parsed
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // local and immediate
	if err != nil {
		return nil, fmt.Errorf("scripted model server: %w", err)
	}
	s.ln, s.url = ln, "http://"+ln.Addr().String()+"/v1"
	return s, nil
}

// serve serves until stop is called, which waits.
func (s *script) serve(ctx context.Context) (stop func()) {
	handler := scriptmodel.New(s.script)
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(s.ln)
	}()
	return func() {
		handler.Close()
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(closing) != nil {
			_ = srv.Close()
		}
		<-done
	}
}
