package directory

import (
	"fmt"
	"testing"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
)

// BenchmarkDecide is what one call costs beyond its own work: who calls, and whether it may, among 5,000 bindings.
func BenchmarkDecide(b *testing.B) {
	s := memstore.New()
	for i := range 5000 {
		bound := access.Binding{Name: fmt.Sprintf("b%d", i), Namespace: fmt.Sprintf("n%d", i%100), Role: "editor", Subjects: []string{fmt.Sprintf("user:u%d", i%1000), "group:ops"}}
		put := store.KV{Key: bindingAt(bound.Namespace, bound.Name), Value: encode(bound)}
		if _, err := s.Commit(b.Context(), store.Txn{Puts: []store.KV{put}}); err != nil {
			b.Fatal(err)
		}
	}
	d := running(b, s, "")
	_, value, err := d.CreateSession(b.Context(), NewSession{User: "u7", Groups: []string{"dev"}})
	if err != nil {
		b.Fatal(err)
	}
	bearer, on := value.Reveal(), access.Object{Namespace: "n7", Kind: "agent", Name: "a"}
	for b.Loop() {
		who, err := d.Authenticate(b.Context(), bearer)
		if err != nil || !who.Allowed("spec.write", on) {
			b.Fatal("denied")
		}
	}
}
