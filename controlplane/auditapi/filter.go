package auditapi

import (
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/audit"
	auditv1 "github.com/agentry/agentry/gen/agentry/audit/v1"
)

// filter says which entries are asked for. Whether the caller may see them is another matter.
type filter struct {
	namespace           string
	all                 bool
	actor, kind, object string
	since               time.Time
}

func filterOf(m *auditv1.ListRequest) filter {
	f := filter{
		namespace: namespaceOf(m.GetNamespace()), all: m.GetAllNamespaces(), actor: m.GetActor(), kind: m.GetType(), object: m.GetObject(),
	}
	if m.GetSince() != nil {
		f.since = m.GetSince().AsTime()
	}
	return f
}

func namespaceOf(given string) string {
	if given == "" {
		return defaultNamespace
	}
	return given
}

func (f filter) matches(e audit.Entry) bool {
	return (f.all || e.Namespace == f.namespace) &&
		(f.actor == "" || e.Actor == f.actor) &&
		(f.kind == "" || string(e.Type) == f.kind) &&
		(f.object == "" || slices.ContainsFunc(e.Objects, func(o string) bool { return strings.EqualFold(o, f.object) }))
}
