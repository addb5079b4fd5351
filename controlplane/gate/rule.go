package gate

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/agentry/agentry/controlplane/access"
	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
)

const (
	ours             = "agentry." // begins the packages of our APIs
	defaultNamespace = "default"
	everyNamespace   = "*"
	kindAgent        = "agent"
)

// rule is a method's option, with the fields of its request that it is about.
type rule struct {
	method     string
	permission string
	on         accessv1.On
	kind       string // "": the request says it
	mutates    bool
	streams    bool
	uploads    bool // the request comes in many messages, the answer in one

	namespaceField, nameField, kindField, allField protoreflect.FieldDescriptor
}

// registered gives every service of our APIs.
func registered() []protoreflect.ServiceDescriptor {
	var out []protoreflect.ServiceDescriptor
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			if strings.HasPrefix(string(f.Package()), ours) {
				out = append(out, f.Services().Get(i))
			}
		}
		return true
	})
	return out
}

func rulesOf(services []protoreflect.ServiceDescriptor) (map[string]*rule, error) {
	out := map[string]*rule{}
	for _, s := range services {
		for i := range s.Methods().Len() {
			m := s.Methods().Get(i)
			r, err := ruleOf("/"+string(s.FullName())+"/"+string(m.Name()), m)
			if err != nil {
				return nil, err
			}
			out[r.method] = r
		}
	}
	return out, nil
}

func ruleOf(method string, m protoreflect.MethodDescriptor) (*rule, error) {
	option, ok := rpc.RuleOf(m)
	if !ok {
		return nil, errs.New(errs.Internal, "gate: %s carries no rule: nobody may call it", method)
	}
	r := &rule{
		method: method, permission: option.GetPermission(), on: option.GetOn(), kind: option.GetKind(), mutates: option.GetMutates(),
		streams: m.IsStreamingServer() || m.IsStreamingClient(), uploads: m.IsStreamingClient() && !m.IsStreamingServer(),
	}
	open := r.on == accessv1.On_ON_PUBLIC || r.on == accessv1.On_ON_CALLER
	if open != (r.permission == "") {
		return nil, errs.New(errs.Internal, "gate: %s: a permission is for what isn't public or the caller's own", method)
	}
	var err error
	text := func(name string) protoreflect.FieldDescriptor {
		f := m.Input().Fields().ByName(protoreflect.Name(name))
		if f == nil || f.Kind() != protoreflect.StringKind || f.Cardinality() == protoreflect.Repeated {
			err = errs.New(errs.Internal, "gate: %s: its request has no text field %q", method, name)
		}
		return f
	}
	switch r.on {
	case accessv1.On_ON_NAMESPACE:
		r.namespaceField = text("namespace")
	case accessv1.On_ON_OBJECT:
		r.namespaceField = text("namespace")
		name := option.GetNameField()
		if name == "" {
			name = "name"
		}
		r.nameField = text(name)
		if r.kind == "" {
			r.kindField = text("kind")
		}
	case accessv1.On_ON_OBJECTS:
		r.namespaceField = text("namespace")
		r.allField = m.Input().Fields().ByName("all_namespaces") // nil: it is about one
	default:
	}
	return r, err
}

func textOf(m proto.Message, f protoreflect.FieldDescriptor) string {
	if f == nil {
		return ""
	}
	return m.ProtoReflect().Get(f).String()
}

// object gives what a request is about; of several, the namespace. all: it is about every namespace.
func (r *rule) object(m proto.Message, labels Labels) (o access.Object, all bool) {
	if r.namespaceField == nil {
		return access.Object{}, false
	}
	if r.allField != nil && m.ProtoReflect().Get(r.allField).Bool() {
		return access.Object{}, true
	}
	o.Namespace = textOf(m, r.namespaceField)
	if o.Namespace == "" {
		o.Namespace = defaultNamespace
	}
	if r.on == accessv1.On_ON_NAMESPACE && o.Namespace == everyNamespace {
		return access.Object{}, true
	}
	if r.on == accessv1.On_ON_OBJECT {
		o.Kind, o.Name = r.kind, textOf(m, r.nameField)
		if r.kindField != nil {
			o.Kind = textOf(m, r.kindField)
		}
		if o.Kind == kindAgent && o.Name != "" {
			o.Labels = labels.AgentLabels(o.Namespace, o.Name)
		}
	}
	return o, false
}
