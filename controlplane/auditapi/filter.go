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

// clockSkew is how much the clocks of replicas may differ. Entries stand in the order in which they were stored.
const clockSkew = time.Hour

// over says that an entry is so much older than asked for that all before it are too old.
func (f filter) over(e audit.Entry) bool {
	return !f.since.IsZero() && !e.Time.IsZero() && e.Time.Before(f.since.Add(-clockSkew))
}

func (f filter) matches(e audit.Entry) bool {
	return !e.Time.Before(f.since) && (f.all || e.Namespace == f.namespace) &&
		(f.actor == "" || e.Actor == f.actor) &&
		(f.kind == "" || string(e.Type) == f.kind) &&
		(f.object == "" || slices.ContainsFunc(e.Objects, func(o string) bool { return strings.EqualFold(o, f.object) }))
}
