package access

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/agentry/agentry/internal/rpc"
)

// A method that asks for something that no role could give would be shut for everybody but administrators, and a role that gives
// something that nobody asks for is a spelling mistake.
func TestMethodsAndRolesAgreeOnPermissions(t *testing.T) {
	known := Permissions()
	name := func(p Permission) string { return p.Name }
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				method := "/" + string(s.FullName()) + "/" + string(s.Methods().Get(j).Name())
				rule, ok := rpc.Rule(method)
				if ok && rule.GetPermission() != "" && !slices.ContainsFunc(known, func(p Permission) bool { return name(p) == rule.GetPermission() }) {
					t.Errorf("%s asks for %s, which isn't known", method, rule.GetPermission())
				}
			}
		}
		return true
	})
	for _, r := range BuiltIn() {
		for _, pattern := range r.Permissions {
			if err := CheckPattern(pattern, known); err != nil {
				t.Errorf("role %s: %v", r.Name, err)
			}
		}
		if r.Name == RoleAdmin {
			continue
		}
		for _, p := range known {
			if p.Instance && r.HoldsSome(p.Name) {
				t.Errorf("role %s holds %s, which only certificates hold", r.Name, p.Name)
			}
		}
	}
	for _, want := range []string{"spec.read", "access.write", CredentialUse, "config.stream"} {
		if !slices.ContainsFunc(known, func(p Permission) bool { return p.Name == want }) {
			t.Errorf("%s isn't known", want)
		}
	}
}

// The matrix of the built-in roles: a change of it is a change of who may do what in every installation.
func TestBuiltInRoles(t *testing.T) {
	viewer := []string{"release.read", "spec.read"}
	want := map[string][]string{
		"viewer":          viewer,
		"editor":          {"mcp.probe", "prompt.label", "release.read", "spec.delete", "spec.read", "spec.write"},
		"credential-user": {"credential.use"},
		"secret-writer":   {"credential.use", "credential.write"},
		"approver":        {"mcp.approve", "mcp.switch", "release.read", "spec.read"},
		"operator": {
			"audit.read", "cluster.read", "identity.join", "identity.read", "identity.revoke", "mcp.probe", "mcp.switch", "prompt.label",
			"release.read", "release.write", "spec.read",
		},
	}
	for _, r := range BuiltIn() {
		var held []string
		for _, p := range Permissions() {
			if r.Holds(p.Name, "") {
				held = append(held, p.Name)
			}
		}
		if r.Name == RoleAdmin {
			if len(held) != len(Permissions()) {
				t.Errorf("admin holds %v only", held)
			}
			continue
		}
		if !slices.Equal(held, want[r.Name]) {
			t.Errorf("role %s holds %v, want %v", r.Name, held, want[r.Name])
		}
	}
	writer := BuiltIn()[3]
	if !writer.Holds("spec.read", "credential") || writer.Holds("spec.read", "agent") || !writer.HoldsSome("spec.read") || writer.HoldsSome("spec.write") {
		t.Error("a secret writer reads credentials only")
	}
}

func TestCheckPattern(t *testing.T) {
	cases := map[string]bool{
		"spec.read": true, "*": true, "spec.*": true, "spec.read@credential": true, "*@agent": true, "spec.*@mcp": true,
		"": false, "spec": false, "spec*": false, "spec.rea*": false, "nothing.*": false, "spec.reed": false, "spec.read@": false,
		"spec.read@agents": false, "spec.read@agent@mcp": false, "**": false, "*.read": false, "spec. read": false,
	}
	known := Permissions()
	for pattern, want := range cases {
		if err := CheckPattern(pattern, known); (err == nil) != want {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}

func TestCovers(t *testing.T) {
	cases := map[string]struct {
		has  []string
		asks string
		want bool
	}{
		"the same":                     {[]string{"spec.read"}, "spec.read", true},
		"another":                      {[]string{"spec.read"}, "spec.write", false},
		"star has all":                 {[]string{"*"}, "*", true},
		"all of today aren't star":     {all(), "*", false},
		"a prefix has its own":         {[]string{"spec.*"}, "spec.read", true},
		"a prefix has the same prefix": {[]string{"spec.*"}, "spec.*", true},
		"parts aren't the prefix":      {[]string{"spec.read", "spec.write", "spec.delete"}, "spec.*", false},
		"unbounded has bounded":        {[]string{"spec.read"}, "spec.read@agent", true},
		"bounded hasn't unbounded":     {[]string{"spec.read@agent"}, "spec.read", false},
		"bounded to another":           {[]string{"spec.read@agent"}, "spec.read@mcp", false},
		"star of a kind":               {[]string{"*@agent"}, "spec.*@agent", true},
		"star of a kind isn't star":    {[]string{"*@agent"}, "*", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := permissionsOf(Role{Permissions: c.has}).covers(c.asks); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func all() []string {
	var out []string
	for _, p := range Permissions() {
		out = append(out, p.Name)
	}
	return out
}
