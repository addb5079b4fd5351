package app

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestParseConfig(t *testing.T) {
	cases := map[string]struct {
		args []string
		env  []string
		want func(*Config)
	}{
		"defaults":             {env: []string{"HOME", "/h"}, want: func(c *Config) { c.DataDir = "/h/.local/state/agentry" }},
		"state home":           {env: []string{"HOME", "/h", "XDG_STATE_HOME", "/s"}, want: func(c *Config) { c.DataDir = "/s/agentry" }},
		"environment":          {env: []string{"AGENTRY_DATA_DIR", "/d"}, want: func(c *Config) { c.DataDir = "/d" }},
		"flags win":            {args: []string{"--data-dir", "/f"}, env: []string{"AGENTRY_DATA_DIR", "/d"}, want: func(c *Config) { c.DataDir = "/f" }},
		"several endpoints":    {args: []string{"--data-dir", "/f", "--etcd-endpoints", "http://a, http://b"}, want: func(c *Config) { c.DataDir, c.EtcdEndpoints = "/f", []string{"http://a", "http://b"} }},
		"other loopbacks":      {args: []string{"--data-dir", "/f", "--people-addr", "[::1]:1", "--runtime-addr", "localhost:0"}, want: func(c *Config) { c.DataDir, c.PeopleAddr, c.RuntimeAddr = "/f", "[::1]:1", "localhost:0" }},
		"runtime door for all": {args: []string{"--data-dir", "/f", "--runtime-addr", "0.0.0.0:7701"}, want: func(c *Config) { c.DataDir, c.RuntimeAddr = "/f", "0.0.0.0:7701" }},
		"trust domain":         {args: []string{"--data-dir", "/f"}, env: []string{"AGENTRY_TRUST_DOMAIN", "example.org"}, want: func(c *Config) { c.DataDir, c.Identity.TrustDomain = "/f", "example.org" }},
		"profiles":             {args: []string{"--data-dir", "/f", "--pprof-addr", "127.0.0.1:6060"}, want: func(c *Config) { c.DataDir, c.PprofAddr = "/f", "127.0.0.1:6060" }},
		"free ports of both":   {args: []string{"--data-dir", "/f", "--people-addr", "127.0.0.1:0", "--runtime-addr", "127.0.0.1:0"}, want: func(c *Config) { c.DataDir, c.PeopleAddr, c.RuntimeAddr = "/f", "127.0.0.1:0", "127.0.0.1:0" }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := ParseConfig(c.args, env(c.env...), &bytes.Buffer{})
			if err != nil {
				t.Fatal(err)
			}
			want := Default(env(c.env...))
			c.want(&want)
			if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(AuditConfig{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConfigFaultsAreToldAtOnce(t *testing.T) {
	_, err := ParseConfig([]string{
		"--data-dir", "", "--people-addr", "0.0.0.0:1", "--runtime-addr", "here", "--etcd-cert", "x", "--log-level", "loud", "--log-format", "xml",
		"--ca-key", "x", "--kube-map", "x",
	}, env(), &bytes.Buffer{})
	if err == nil {
		t.Fatal("no fault")
	}
	for _, want := range []string{"--data-dir", "--people-addr", "--runtime-addr", "--etcd-endpoints", "--etcd-key", "--log-level", "--log-format", "--ca-cert", "--kube-api-url"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s isn't told: %v", want, err)
		}
	}
	var out bytes.Buffer
	if _, err := ParseConfig([]string{"--help"}, env(), &out); !errors.Is(err, flag.ErrHelp) || !strings.Contains(out.String(), "data-dir") {
		t.Errorf("help: %v %s", err, out.String())
	}
}

func TestClusterFlags(t *testing.T) {
	list := "a=127.0.0.1:1,b=127.0.0.1:2, c=127.0.0.1:3"
	cases := map[string]struct {
		args []string
		want string // "": no fault
	}{
		"a member":             {args: []string{"--cluster", list, "--cluster-name", "b", "--kek-file", "k"}},
		"not among them":       {args: []string{"--cluster", list, "--cluster-name", "d", "--kek-file", "k"}, want: `"d" isn't in the list`},
		"no name":              {args: []string{"--cluster", list, "--kek-file", "k"}, want: "isn't in the list"},
		"no list":              {args: []string{"--cluster-name", "a"}, want: "need --cluster"},
		"no pair":              {args: []string{"--cluster", "127.0.0.1:1"}, want: "NAME=HOST:PORT"},
		"a key of its own":     {args: []string{"--cluster", list, "--cluster-name", "a"}, want: "--kek-file"},
		"beside another etcd":  {args: []string{"--cluster", list, "--cluster-name", "a", "--kek-file", "k", "--etcd-endpoints", "http://a"}, want: "--etcd-endpoints"},
		"in clear elsewhere":   {args: []string{"--cluster", "a=10.0.0.1:1,b=10.0.0.2:1,c=10.0.0.3:1", "--cluster-name", "a", "--kek-file", "k"}, want: "certificates"},
		"certificates or none": {args: []string{"--cluster", list, "--cluster-name", "a", "--kek-file", "k", "--cluster-cert", "x"}, want: "belong together"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := ParseConfig(c.args, env("HOME", "/h"), &bytes.Buffer{})
			switch {
			case c.want == "" && (err != nil || len(got.Cluster.Members) != 3):
				t.Errorf("%+v, %v", got.Cluster, err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestRunAll(t *testing.T) {
	forever := func(ctx context.Context) error { <-ctx.Done(); return nil }
	broken := errors.New("broken")
	cases := map[string]struct {
		run  func(context.Context) error
		want string
	}{
		"the first error ends all": {run: func(context.Context) error { return broken }, want: "it: broken"},
		"a panic is an error":      {run: func(context.Context) error { panic("oh") }, want: "it: panic: oh"},
		"an early end is an error": {run: func(context.Context) error { return nil }, want: "it: ended by itself"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := runAll(t.Context(), []part{{"other", forever}, {"it", c.run}})
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := runAll(ctx, []part{{"a", forever}, {"b", forever}}); err != nil {
		t.Errorf("asked to end: %v", err)
	}
}
