package rpc

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
)

// Permission gives what a caller of a method such as "/agentry.spec.v1.SpecService/Apply" must hold, from the option
// agentry.access.v1.access. ok is false for a method that isn't known or carries none: deny it.
func Permission(fullMethod string) (permission string, ok bool) {
	service, method, found := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	if !found {
		return "", false
	}
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return "", false
	}
	sd, isService := d.(protoreflect.ServiceDescriptor)
	if !isService {
		return "", false
	}
	md := sd.Methods().ByName(protoreflect.Name(method))
	if md == nil {
		return "", false
	}
	access, isAccess := proto.GetExtension(md.Options(), accessv1.E_Access).(*accessv1.Access)
	if !isAccess || access.GetPermission() == "" {
		return "", false
	}
	return access.GetPermission(), true
}
