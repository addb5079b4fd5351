package registryapi

import (
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/spec"
)

// A credential that is bound to origins is told with them, and a probe opens it for those alone.
func TestBoundCredentials(t *testing.T) {
	r := newRig(t)
	create := func(name string, origins ...string) error {
		_, err := r.Create(r.ctx(), connect.NewRequest(&registryv1.CreateRequest{Name: name, Value: []byte("canary-bound"), AllowedOrigins: origins}))
		return err
	}
	if err := create("bound", "https://B.example.com:443", "https://a.example.com", "https://b.example.com"); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"", "a.example.com", "https://a.example.com/", "https://a.example.com/v1", "https://u@a.example.com", "https://*.example.com", "ftp://a"} {
		if err := create("wrong", wrong); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	list, err := r.List(r.ctx(), connect.NewRequest(&registryv1.ListRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"https://a.example.com", "https://b.example.com"}, list.Msg.GetCredentials()[0].GetAllowedOrigins()); diff != "" {
		t.Error(diff)
	}
	in := map[string]spec.Value{"X-Key": {Ref: "bound"}}
	if got, err := r.values("default", []string{"https://a.example.com/mcp", "https://b.example.com/mcp"}, in); err != nil || got["X-Key"].Reveal() != "canary-bound" {
		t.Errorf("within its origins: %v", err)
	}
	if got, err := r.values("default", []string{"https://a.example.com/mcp", "https://evil.example.com/mcp"}, in); !errs.Is(err, errs.Precondition) || got != nil {
		t.Errorf("elsewhere: %v", err)
	}
}
