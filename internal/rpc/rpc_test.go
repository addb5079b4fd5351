package rpc

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	_ "github.com/agentry/agentry/gen/agentry/release/v1"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

func TestEveryMethodHasAPermission(t *testing.T) {
	t.Parallel()
	n := 0
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(f.Package()), "agentry.") {
			return true
		}
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				name := "/" + string(s.FullName()) + "/" + string(s.Methods().Get(j).Name())
				n++
				if _, ok := Rule(name); !ok {
					t.Errorf("%s has no agentry.access.v1.access option", name)
				}
			}
		}
		return true
	})
	if n < 3 {
		t.Errorf("only %d methods found", n)
	}
	for _, unknown := range []string{"", "/x/y", "/agentry.spec.v1.SpecService/Nope", "/agentry.spec.v1.ApplyRequest/x"} {
		if _, ok := Rule(unknown); ok {
			t.Errorf("%q has a permission", unknown)
		}
	}
}

func TestRequireLoopback(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"127.0.0.1:7700": true, "127.9.9.9:0": true, "localhost:1": true, "[::1]:7700": true, "[::ffff:127.0.0.1]:1": true,
		":7700": false, "0.0.0.0:1": false, "[::]:1": false, "10.0.0.1:1": false, "example.org:1": false, "nonsense": false,
	} {
		if got := RequireLoopback(addr) == nil; got != want {
			t.Errorf("%s: loopback %v, want %v", addr, got, want)
		}
	}
}

func TestDialKeepsTheTokenFromTheNetwork(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]bool{
		"127.0.0.1:7701": true, "localhost:1": true, "dns:///127.0.0.1:1": true, "[::1]:1": true, "unix:///run/x.sock": true,
		"10.0.0.1:1": false, "dns:///example.org:1": false, "example.org:1": false, "passthrough:///10.0.0.1:1": false,
	} {
		c, err := Dial(target, DialConfig{Token: secret.NewValue("t")})
		if (err == nil) != want {
			t.Errorf("%s: %v", target, err)
		}
		if c != nil {
			_ = c.Close()
		}
	}
}

type service struct {
	specv1.UnimplementedSpecServiceServer

	get func() error
}

func (s *service) Get(context.Context, *specv1.GetRequest) (*specv1.GetResponse, error) {
	return nil, s.get()
}

func (s *service) Watch(*specv1.WatchRequest, grpc.ServerStreamingServer[specv1.WatchResponse]) error {
	return s.get()
}

func TestCalls(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		token string
		get   func() error
		want  codes.Code
		text  string
	}{
		"kind becomes a code":     {"right", func() error { return errs.New(errs.Conflict, "moved") }, codes.Aborted, "moved"},
		"a panic is internal":     {"right", func() error { panic("hidden") }, codes.Internal, internalMessage},
		"a fault of ours is mute": {"right", func() error { return errs.New(errs.Internal, "hidden") }, codes.Internal, internalMessage},
		"no token":                {"", nil, codes.Unauthenticated, "who are you"},
		"wrong token":             {"wrong", nil, codes.Unauthenticated, "who are you"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, err := NewServer(Config{Logger: slog.New(slog.DiscardHandler), Auth: func(ctx context.Context, _ string) (context.Context, error) {
				if Bearer(ctx) != "right" {
					return nil, errs.New(errs.Unauthenticated, "who are you")
				}
				return ctx, nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			specv1.RegisterSpecServiceServer(srv, &service{get: tc.get})
			lis := bufconn.Listen(1 << 16)
			served := make(chan error, 1)
			go func() { served <- srv.Serve(lis) }()
			conn, err := Dial("passthrough:///localhost:1", DialConfig{Token: secret.NewValue(tc.token), Options: []grpc.DialOption{
				grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
			}})
			if err != nil {
				t.Fatal(err)
			}
			client := specv1.NewSpecServiceClient(conn)
			_, unary := client.Get(t.Context(), &specv1.GetRequest{})
			s, err := client.Watch(t.Context(), &specv1.WatchRequest{})
			if err != nil {
				t.Fatal(err)
			}
			_, stream := s.Recv()
			for _, got := range []error{unary, stream} {
				if status.Code(got) != tc.want || status.Convert(got).Message() != tc.text {
					t.Errorf("got %v, want %s %q", got, tc.want, tc.text)
				}
				if errs.Code(FromStatus(got)) != tc.want {
					t.Errorf("kind of %v is lost", got)
				}
			}
			_ = conn.Close()
			srv.Stop()
			<-served
		})
	}
	_ = pushv1.ConfigService_ServiceDesc
}
