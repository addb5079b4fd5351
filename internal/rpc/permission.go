package rpc

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
)

// Rule gives who may call a method such as "/agentry.spec.v1.SpecService/Apply", from the option agentry.access.v1.access. ok is
// false for a method that isn't known or has no rule: deny it.
func Rule(fullMethod string) (rule *accessv1.Access, ok bool) {
	service, method, found := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	if !found {
		return nil, false
	}
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, false
	}
	sd, isService := d.(protoreflect.ServiceDescriptor)
	if !isService {
		return nil, false
	}
	md := sd.Methods().ByName(protoreflect.Name(method))
	if md == nil {
		return nil, false
	}
	return RuleOf(md)
}

// RuleOf is Rule for a method whose descriptor is at hand.
func RuleOf(md protoreflect.MethodDescriptor) (rule *accessv1.Access, ok bool) {
	access, isAccess := proto.GetExtension(md.Options(), accessv1.E_Access).(*accessv1.Access)
	if !isAccess || access.GetOn() == accessv1.On_ON_UNSPECIFIED {
		return nil, false
	}
	return access, true
}
