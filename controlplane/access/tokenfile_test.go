package access

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/agentry/agentry/gen/agentry/access/v1"   // its services are checked
	_ "github.com/agentry/agentry/gen/agentry/audit/v1"    // its services are checked
	_ "github.com/agentry/agentry/gen/agentry/identity/v1" // its services are checked
	_ "github.com/agentry/agentry/gen/agentry/push/v1"     // its services are checked
	_ "github.com/agentry/agentry/gen/agentry/registry/v1" // its services are checked
	_ "github.com/agentry/agentry/gen/agentry/release/v1"  // its services are checked
	_ "github.com/agentry/agentry/gen/agentry/spec/v1"     // its services are checked
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
)

func TestEveryMethodCarriesAPermission(t *testing.T) {
	methods := 0
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(f.Package()), "agentry.") {
			return true
		}
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				methods++
				name := "/" + string(s.FullName()) + "/" + string(s.Methods().Get(j).Name())
				if p, ok := rpc.Rule(name); !ok {
					t.Errorf("%s: rule %v", name, p)
				}
			}
		}
		return true
	})
	if methods < 60 {
		t.Errorf("only %d methods seen", methods)
	}
}

func TestTokenFileSurvivesRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	first, err := LoadToken(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	second, err := LoadToken(path)
	if err != nil || second.Reveal() != first.Reveal() || len(first.Reveal()) < 32 {
		t.Errorf("the token changed or is short: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadToken(path); !errs.Is(err, errs.Precondition) {
		t.Errorf("open file: %v", err)
	}
}

func TestPrincipalTravelsInTheContext(t *testing.T) {
	if _, ok := From(t.Context()); ok {
		t.Error("an empty context names a caller")
	}
	p, ok := From(With(t.Context(), Principal{Name: "dev"}))
	if !ok || p.Name != "dev" {
		t.Errorf("got %+v", p)
	}
}
