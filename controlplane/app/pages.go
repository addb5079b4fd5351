package app

import (
	"context"
	"html/template"
	"net/http"
	"time"

	"github.com/agentry/agentry/controlplane/releaseapi"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/stream"
	"github.com/agentry/agentry/controlplane/view"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
)

// probeTimeout bounds readiness' question to the store.
const probeTimeout = time.Second

// pages are the plain HTTP answers beside the APIs: health for machines, /debug for the people of this machine. They
// show no content of specs and no secret.
type pages struct {
	store   store.Store
	view    *view.View
	status  *releaseapi.Service
	hub     *stream.Hub
	version string
}

func (p pages) mount(door *people) {
	door.mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	door.mux.HandleFunc("/readyz", p.ready)
	door.page("/debug", http.HandlerFunc(p.debug))
	door.page("/debug/events", http.HandlerFunc(p.events))
	door.mux.HandleFunc("/debug/{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/debug", http.StatusFound) })
	door.mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/debug", http.StatusFound) })
}

// ready is 200 when the store answers and the view follows it.
func (p pages) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), probeTimeout)
	defer cancel()
	rev, err := p.store.Commit(ctx, store.Txn{})
	if err == nil {
		err = p.view.WaitFor(ctx, rev)
	}
	if err != nil {
		http.Error(w, "the store doesn't answer: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	if alarm := p.hub.Alarm(); alarm != "" {
		http.Error(w, alarm, http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

func (p pages) debug(w http.ResponseWriter, _ *http.Request) {
	render(w, debugPage, map[string]any{
		"Version": p.version, "Cluster": p.view.Cluster(), "View": p.view.Stats(), "Push": p.hub.Stats(), "Alarm": p.hub.Alarm(),
		"Agents": p.status.Statuses(""), "Now": time.Now().UTC().Format(time.RFC3339),
	})
}

func (p pages) events(w http.ResponseWriter, _ *http.Request) {
	render(w, eventsPage, p.status.Recent())
}

func render(w http.ResponseWriter, page string, data any) {
	t, err := template.New("page").Funcs(template.FuncMap{
		"config": func(r *releasev1.ConfigRef) string { return r.GetConfig() },
		"sync": func(i *releasev1.Instance) string {
			if i.GetDesired().GetHash() == i.GetRunning().GetHash() {
				return "in sync"
			}
			return "not in sync"
		},
	}).Parse(pageHead + page)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	w.Header().Set("Cache-Control", "no-store")
	_ = t.Execute(w, data)
}

const pageHead = `<!doctype html><meta charset="utf-8"><title>agentry</title>
<style>body{font:14px system-ui;margin:2em}table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left;vertical-align:top}</style>
<p><a href="/debug">agents</a> · <a href="/debug/events">events</a> · <a href="/metrics">metrics</a></p>
`

const debugPage = `<h1>Agents</h1>
{{with .Alarm}}<p><strong>{{.}}</strong></p>{{end}}
<table><tr><th>agent<th>condition<th>desired<th>stable<th>config<th>instance<th>phase<th>running<th>sync<th>faults</tr>
{{range .Agents}}{{$a := .}}{{range .Instances}}<tr><td>{{$a.Namespace}}/{{$a.Agent}}<td>{{$a.Condition}}<td>{{$a.DesiredRevision}}<td>{{$a.StableRevision}}<td>{{$a.Config}}<td>{{.Id}}<td>{{.Phase}}<td>{{config .Running}}<td>{{sync .}}<td>{{range .Faults}}{{.Severity}} {{.Resource}} {{.Field}} {{.Code}}: {{.Message}}<br>{{end}}</tr>
{{else}}<tr><td>{{.Namespace}}/{{.Agent}}<td>{{.Condition}}<td>{{.DesiredRevision}}<td>{{.StableRevision}}<td>{{.Config}}<td colspan="5">no instance</tr>
{{end}}{{with .LastRefusal}}<tr><td colspan="10">{{$a.Agent}}: {{.Config}} was refused by {{.Instance}} ({{.Action}}{{with .RolledBackTo}} to {{.}}{{end}}): {{range .Faults}}{{.Resource}} {{.Field}} {{.Code}}: {{.Message}} {{end}}</tr>
{{end}}{{else}}<tr><td colspan="10">nothing applied yet</tr>{{end}}</table>
<h1>View</h1><table>
<tr><th>cluster<td>{{.Cluster.ID}} epoch {{.Cluster.Epoch}}</tr><tr><th>store revision<td>{{.View.Revision}}</tr>
<tr><th>keys<td>{{.View.Keys}}</tr><tr><th>agents, prompts, MCP, credentials<td>{{.View.Agents}}, {{.View.Prompts}}, {{.View.MCP}}, {{.View.Credentials}}</tr>
<tr><th>immutables<td>{{.View.Blobs}} ({{.View.BlobBytes}} bytes)</tr><tr><th>applied configs, refusals<td>{{.View.Applied}}, {{.View.Refusals}}</tr>
<tr><th>batches, events, relists, breaks<td>{{.View.Batches}}, {{.View.Events}}, {{.View.Relists}}, {{.View.Breaks}}</tr></table>
<h1>Push</h1><table><tr><th>streams<td>{{.Push.Streams}}</tr><tr><th>snapshots, currents, resends, withheld<td>{{.Push.Snapshots}}, {{.Push.Currents}}, {{.Push.Resends}}, {{.Push.Withheld}}</tr>
<tr><th>bytes of content<td>{{.Push.Bytes}}</tr></table><p>controlplane {{.Version}} at {{.Now}}</p>`

const eventsPage = `<h1>Events</h1><table><tr><th>time<th>agent<th>instance<th>type<th>config<th>message</tr>
{{range .}}<tr><td>{{.Time.Format "15:04:05.000"}}<td>{{.Namespace}}/{{.Agent}}<td>{{.Instance}}<td>{{.Type}}<td>{{.Config}}<td>{{.Message}}</tr>
{{else}}<tr><td colspan="6">none yet</tr>{{end}}</table>`
