package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/rpc"
	"google.golang.org/protobuf/proto"
)

// command is one line that the bench writes to a server or to the clients; reply is the line it gets back.
type command struct {
	Op      string   `json:"op"`
	Agents  []string `json:"agents,omitempty"`
	Content []byte   `json:"content,omitempty"`
	Version int64    `json:"version,omitempty"`
	Scope   string   `json:"scope,omitempty"`
}

type reply struct {
	Error   string `json:"error,omitempty"`
	Addr    string `json:"addr,omitempty"`
	Pprof   string `json:"pprof,omitempty"`
	Content []byte `json:"content,omitempty"`
	Bytes   int64  `json:"bytes,omitempty"`
	Sent    int64  `json:"sent,omitempty"`
	Last    int64  `json:"last,omitempty"`
	P50     int64  `json:"p50,omitempty"`
	P99     int64  `json:"p99,omitempty"`
}

// answer reads commands until the end of in and answers each with what f gives.
func answer(in io.Reader, out io.Writer, f func(command) (reply, error)) error {
	lines := bufio.NewReaderSize(in, 1<<20)
	enc := json.NewEncoder(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return nil //nolint:nilerr // the bench closed the pipe: the end
		}
		var c command
		if err := json.Unmarshal(line, &c); err != nil {
			return err
		}
		r, err := f(c)
		if err != nil {
			r.Error = err.Error()
		}
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
}

// serve is the process of one of the two servers to compare with. It has the gRPC settings of the control plane's own door.
func serve(ctx context.Context, system string) error {
	door, err := serverTLS(os.Getenv)
	if err != nil {
		return err
	}
	srv, err := rpc.NewServer(rpc.Config{Logger: slog.New(slog.DiscardHandler), Auth: rpc.Open, TLS: door})
	if err != nil {
		return err
	}
	var publish func(agent string, c *pushv1.Content, version int64) error
	if system == nameXDS {
		x := newXDS(ctx, srv)
		publish = func(agent string, c *pushv1.Content, version int64) error { return x.publish(ctx, agent, c, version) }
	} else {
		y := &yardstick{agents: map[string]*group{}}
		pushv1.RegisterConfigServiceServer(srv, y)
		publish = func(agent string, c *pushv1.Content, version int64) error {
			b, err := proto.Marshal(c)
			if err != nil {
				return err
			}
			y.publish(agent, b, version)
			return nil
		}
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	debug, err := serveProfiles(ctx)
	if err != nil {
		return err
	}
	go func() { _ = srv.Serve(ln) }()
	defer srv.Stop()
	if err := json.NewEncoder(os.Stdout).Encode(reply{Addr: ln.Addr().String(), Pprof: debug}); err != nil {
		return err
	}
	return answer(os.Stdin, os.Stdout, func(c command) (reply, error) {
		content := &pushv1.Content{}
		if err := proto.Unmarshal(c.Content, content); err != nil {
			return reply{}, err
		}
		for _, a := range c.Agents {
			if err := publish(a, withVersion(content, c.Version), c.Version); err != nil {
				return reply{}, err
			}
		}
		return reply{}, nil
	})
}

// withVersion gives the content with another prompt of the same length.
func withVersion(c *pushv1.Content, version int64) *pushv1.Content {
	out := &pushv1.Content{Manifest: c.GetManifest()}
	for _, r := range c.GetResources() {
		if r.GetKind() == "prompt" {
			b := append([]byte(nil), r.GetJson()...)
			copy(b[len(b)-20:], fmt.Sprintf("%018d", version))
			r = &pushv1.Resource{Kind: r.GetKind(), Name: r.GetName(), Version: fmt.Sprintf("1.0.%d", version), Json: b}
		}
		out.Resources = append(out.Resources, r)
	}
	return out
}

func serveProfiles(ctx context.Context) (string, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	go func() { _ = http.Serve(ln, mux) }() //nolint:gosec // G114: loopback, in a bench
	return ln.Addr().String(), nil
}
