package spec

import (
	"slices"
	"strings"
)

func (l *faultList) memory(m Memory) {
	if m.StorageType == "redis" && m.Address == "" {
		l.add("memory.address", "is missing (storageType redis needs host:port)")
	}
	if (m.SearchStrategy == "vector" || m.SearchStrategy == "hybrid") && m.EmbeddingModel == "" {
		l.add("memory.embeddingModel", "is missing (searchStrategy %s needs an embedding model of the agent's model endpoint)", m.SearchStrategy)
	}
}

// approval faults what would never ask for consent: a slip in a server's name must not let calls through.
func (l *faultList) approval(a *Agent) {
	if a.Approval == nil {
		return
	}
	if len(a.Approval.Tools) == 0 {
		l.add("approval.tools", "is empty (leave approval out where no call needs consent)")
	}
	known := make([]string, len(a.MCPServers))
	for i, s := range a.MCPServers {
		known[i] = s.MCPServerName
	}
	seen := map[ApprovalTool]int{}
	for i, t := range a.Approval.Tools {
		at := Index("approval.tools", i)
		if first, ok := seen[t]; ok {
			l.add(at, "is there already, as number %d of the list", first+1)
			continue
		}
		seen[t] = i
		server, tool, named := strings.Cut(t.Tool, "/")
		ref, ok := a.server(server)
		switch {
		case server == "":
		case !ok:
			l.add(at, "names server %s, which isn't in mcpServers", shown(server))
			if near, ok := Nearest(server, known); ok {
				(*l)[len(*l)-1].Hint = "did you mean " + near + "?"
			}
		case named && ref.Tools != nil && len(ref.Tools.Allow) > 0 && !slices.Contains(ref.Tools.Allow, tool):
			l.add(at, "names tool %s, which tools.allow of the server doesn't", shown(tool))
			if near, ok := Nearest(tool, ref.Tools.Allow); ok {
				(*l)[len(*l)-1].Hint = "did you mean " + near + "?"
			}
		}
	}
}

func (a *Agent) server(name string) (MCPServerRef, bool) {
	for _, s := range a.MCPServers {
		if s.MCPServerName == name {
			return s, true
		}
	}
	return MCPServerRef{}, false
}

func (l *faultList) expose(e *Expose) {
	if e == nil {
		return
	}
	l.a2a(e)
	l.keys(e.Auth)
	if e.CORS == nil {
		return
	}
	if len(e.CORS.Origins) == 0 {
		l.add("expose.cors.origins", "is empty (leave cors out where no page of another origin may call)")
	}
	l.twice(e.CORS.Origins, "expose.cors.origins")
	for i, o := range e.CORS.Origins {
		if o == "*" && len(e.CORS.Origins) > 1 {
			l.add(Index("expose.cors.origins", i), "stands beside other origins (\"*\" is every one)")
		}
	}
}

func (l *faultList) a2a(e *Expose) {
	settings, _ := e.A2ASettings()
	l.twice(settings.Tools, "expose.a2a.tools")
	if settings.SigningKey.Literal != "" {
		l.add("expose.a2a.signingKey", `must be {"credentialRef": "name"}: a PEM key has more than one line`)
	}
}

// keys faults callers that can't be told apart, and doors that nobody could enter.
func (l *faultList) keys(auth *InboundAuth) {
	if auth == nil {
		return
	}
	if len(auth.Keys) == 0 {
		l.add("expose.auth.keys", "is empty (leave auth out for callers on loopback addresses only)")
	}
	l.unique(len(auth.Keys), "callers' names", func(i int) (string, string) {
		return auth.Keys[i].Name, Index("expose.auth.keys", i) + ".name"
	})
	seen := map[Value]int{}
	for i, k := range auth.Keys {
		at := Index("expose.auth.keys", i) + ".key"
		first, again := seen[k.Key]
		switch {
		case k.Key.IsZero():
			l.add(at, "is empty")
		case again:
			l.add(at, "is that of number %d of the list (callers are told apart by their keys)", first+1)
		default:
			seen[k.Key] = i
		}
	}
}
