package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/etcdstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/test/harness"
)

const (
	perApply = 100 // heads in one apply: the most that the API takes
	writers  = 4
	perAgent = 3 // MCP entries that an agent refers to
)

// fill writes everything that persons write by the public API, perApply heads at a time, and what instances would have
// reported through the store port into the data directory: no instance runs here.
func fill(ctx context.Context, env *harness.Env, s size, out io.Writer) error {
	cp, err := env.StartControlPlane(ctx, "--log-level", "warn")
	if err != nil {
		return err
	}
	defer cp.Kill()
	api, err := cp.API()
	if err != nil {
		return err
	}
	began := time.Now()
	stages := []struct {
		n    int
		file func(harness.Files, int)
	}{{s.prompts, promptFile}, {s.mcp, mcpFile}}
	for revision := range s.revisions {
		stages = append(stages, struct {
			n    int
			file func(harness.Files, int)
		}{s.agents, func(f harness.Files, i int) { agentFiles(f, s, i, fmt.Sprintf("revision %d", revision+1)) }})
	}
	for _, stage := range stages {
		if err := inParts(ctx, api, stage.n, stage.file); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "%d agents x %d revisions, %d prompts and %d MCP entries by the API in %.0f s\n", s.agents, s.revisions, s.prompts, s.mcp, time.Since(began).Seconds())
	if err := cp.Stop(20 * time.Second); err != nil {
		return err
	}
	return fillApplied(ctx, cp.DataDir)
}

// inParts applies n objects, several parts at once.
func inParts(ctx context.Context, api harness.API, n int, file func(harness.Files, int)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	starts := make(chan int)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for from := range starts {
				files := harness.Files{}
				for i := from; i < min(from+perApply, n); i++ {
					file(files, i)
				}
				if _, err := api.Apply(ctx, files); err != nil {
					cancel(err)
				}
			}
		})
	}
	for from := 0; from < n && ctx.Err() == nil; from += perApply {
		select {
		case starts <- from:
		case <-ctx.Done():
		}
	}
	close(starts)
	wg.Wait()
	return context.Cause(ctx)
}

func agentName(i int) string  { return fmt.Sprintf("agent-%05d", i) }
func promptName(i int) string { return fmt.Sprintf("team-%02d/prompt-%05d", i%50, i) }
func mcpName(i int) string    { return fmt.Sprintf("tools-%04d", i) }

func promptFile(f harness.Files, i int) {
	text := strings.Repeat("Answer in the caller's language, briefly, and name the source of every number. ", 12)
	f[fmt.Sprintf("prompts/%05d.json", i)] = fmt.Sprintf(`{"promptKey": %q, "version": "1.0.0", "template": "You are prompt %d. %s"}`, promptName(i), i, text)
}

func mcpFile(f harness.Files, i int) {
	f[fmt.Sprintf("mcp/%04d.json", i)] = fmt.Sprintf(`{"name": %q, "endpoint": "http://127.0.0.1:%d/mcp", "description": "Tools number %d."}`, mcpName(i), 20000+i, i)
}

func agentFiles(f harness.Files, s size, i int, what string) {
	dir := agentName(i) + "/"
	f[dir+"agent-base.json"] = fmt.Sprintf(`{"promptKey": %q, "description": "Agent %d, %s. It answers what people ask about orders, stock and deliveries.", "maxIterations": 10, "labels": {"team": "team-%02d"}}`, promptName(i%s.prompts), i, what, i%50)
	f[dir+"model.json"] = `{"model": "qwen-plus-latest", "baseUrl": "http://127.0.0.1:9/v1", "temperature": 0.8, "maxTokens": 8192}`
	var refs []string
	for k := range min(perAgent, s.mcp) {
		refs = append(refs, fmt.Sprintf(`{"mcpServerName": %q, "tools": {"allow": ["list", "get", "search"]}}`, mcpName((i+k)%s.mcp)))
	}
	f[dir+"mcp-servers.json"] = fmt.Sprintf(`{"mcpServers": [%s]}`, strings.Join(refs, ", "))
}

// fillApplied stores one applied config for every revision, as if an instance had served each.
func fillApplied(ctx context.Context, dir string) error {
	s, err := etcdstore.OpenEmbedded(ctx, etcdstore.EmbeddedConfig{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	v, err := view.Open(ctx, view.Config{Store: s, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	shared := map[string]manifest.Line{}
	for _, e := range v.Prompts("") {
		shared["prompt/"+e.Head.Name] = manifest.Line{Kind: manifest.KindPrompt, Name: e.Head.Name, Version: e.Head.Versions[0].Version, SHA256: e.Head.Versions[0].Hash}
	}
	for _, e := range v.MCPs("") {
		shared["mcp/"+e.Head.Name] = manifest.Line{Kind: manifest.KindMCP, Name: e.Head.Name, Version: e.Head.Current, SHA256: e.Head.Versions[0].Hash}
	}
	prompts, entries := len(v.Prompts("")), len(v.MCPs(""))
	var batch []store.KV
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		_, err := s.Commit(ctx, store.Txn{Puts: batch})
		batch = batch[:0]
		return err
	}
	for _, e := range v.Agents("") {
		var i int
		if _, err := fmt.Sscanf(e.Head.Name, "agent-%d", &i); err != nil {
			return err
		}
		for _, r := range e.Head.State.Revisions {
			lines := []manifest.Line{{Kind: manifest.KindAgent, Name: e.Head.Name, Version: "-", SHA256: r.Spec}, shared["prompt/"+promptName(i%prompts)]}
			for k := range min(perAgent, entries) {
				lines = append(lines, shared["mcp/"+mcpName((i+k)%entries)])
			}
			manifest.Sort(lines)
			h := manifest.Of(lines)
			batch = append(batch, store.KV{Key: view.AppliedKey(e.Namespace, e.Head.Name, h), Value: view.Encode(view.Applied{
				Revision: r.N, Config: manifest.ConfigName(r.N, h), Lines: lines, Instance: e.Head.Name + "-0", Time: time.Now().UTC(),
			})})
			if len(batch) == 500 {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}
