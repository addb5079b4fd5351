package fleet

import (
	"slices"
	"strings"
	"unique"

	"github.com/agentry/agentry/internal/phase"
)

// Bounds of what is kept of one instance's words on one server.
const (
	maxServers         = 256
	maxServerTools     = 2048
	maxDescriptionText = 2 << 10 // bytes
)

// Server is an instance's word on one MCP server that it uses. Name is as the agent's spec writes it.
type Server struct {
	Name    string
	Healthy bool
	Message string
	Tools   []ServerTool
}

// ServerTool is one tool as an instance's server defines it. Digest is that of the definition, in lower hex.
type ServerTool struct {
	Name        string
	Description string
	Digest      string
}

// ServerReport is what one instance says of one server.
type ServerReport struct {
	Instance string
	Server
}

// server is a Server as it is kept: many instances say the same, so equal tools are stored once.
type server struct {
	name    string
	healthy bool
	message string
	tools   []unique.Handle[ServerTool]
}

// Servers records what an instance tells of the servers that it uses. Words on a server replace the ones before; the
// first words of a stream replace all.
func (t *Table) Servers(k Key, told []Server) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.live(k)
	if e == nil {
		return
	}
	if e.told != e.session {
		e.servers, e.told = nil, e.session
	}
	for _, s := range told {
		kept := keep(s)
		i := slices.IndexFunc(e.servers, func(o server) bool { return strings.EqualFold(o.name, s.Name) })
		switch {
		case i >= 0:
			e.servers[i] = kept
		case len(e.servers) < maxServers:
			e.servers = append(e.servers, kept)
		}
	}
	e.words++
	t.tell(e)
}

// keep is how words on a server are kept.
func keep(s Server) server {
	out := server{name: s.Name, healthy: s.Healthy, message: clip(s.Message)}
	for _, tool := range s.Tools[:min(len(s.Tools), maxServerTools)] {
		tool.Description = clip(tool.Description)
		out.tools = append(out.tools, unique.Make(tool))
	}
	return out
}

func (s server) value() Server {
	out := Server{Name: s.name, Healthy: s.healthy, Message: s.message}
	for _, tool := range s.tools {
		out.Tools = append(out.Tools, tool.Value())
	}
	return out
}

// ServerReports gives what the instances of an agent that aren't offline say of a server, sorted by instance. The values
// are the caller's own.
func (t *Table) ServerReports(namespace, agent, name string) []ServerReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []ServerReport
	for _, e := range t.agents[keyOf(namespace, agent)].sorted() {
		if e.inst.Phase == phase.Offline {
			continue
		}
		for _, s := range e.servers {
			if !strings.EqualFold(s.name, name) {
				continue
			}
			out = append(out, ServerReport{Instance: e.inst.ID.Instance, Server: s.value()})
		}
	}
	return out
}

func clip(text string) string {
	if len(text) <= maxDescriptionText {
		return text
	}
	return strings.ToValidUTF8(text[:maxDescriptionText], "")
}
