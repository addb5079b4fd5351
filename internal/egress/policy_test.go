package egress_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/errs"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]egress.Class{
		"93.184.215.14": egress.Public, "2606:2800:21f:cb07:6820:80da:af6b:8b2c": egress.Public, "64:ff9b::5db8:d70e": egress.Public, "::ffff:93.184.215.14": egress.Public,
		"9.255.255.255": egress.Public, "11.0.0.0": egress.Public, "126.255.255.255": egress.Public, "128.0.0.0": egress.Public,
		"100.63.255.255": egress.Public, "100.64.0.0": egress.Shared, "100.127.255.255": egress.Shared, "100.128.0.0": egress.Public,
		"172.15.255.255": egress.Public, "172.16.0.0": egress.Private, "172.31.255.255": egress.Private, "172.32.0.0": egress.Public,
		"192.167.255.255": egress.Public, "192.168.0.0": egress.Private, "192.169.0.0": egress.Public,
		"169.253.255.255": egress.Public, "169.254.0.0": egress.LinkLocal, "169.254.169.254": egress.LinkLocal, "169.255.0.0": egress.Public,
		"223.255.255.255": egress.Public, "224.0.0.0": egress.Multicast, "239.255.255.255": egress.Multicast, "240.0.0.0": egress.Reserved, "255.255.255.255": egress.Reserved,
		"0.0.0.0": egress.Unspecified, "0.255.255.255": egress.Unspecified, "1.0.0.0": egress.Public,
		"168.63.129.16": egress.Metadata, "100.100.100.200": egress.Metadata, "fd00:ec2::254": egress.Metadata, "fd20:ce::254": egress.Metadata,
		"::1": egress.Loopback, "::": egress.Unspecified, "::ffff:127.0.0.1": egress.Loopback, "::127.0.0.1": egress.Reserved, "::ffff:0:127.0.0.1": egress.Reserved,
		"64:ff9b::7f00:1": egress.Loopback, "64:ff9b::a00:1": egress.Private, "64:ff9b:1::5db8:d70e": egress.Tunnel, "2002:5db8:d70e::1": egress.Tunnel,
		"2001:0:5db8:d70e::1": egress.Tunnel, "2001:10::1": egress.Reserved, "2001:200::1": egress.Public, "2001:db8::1": egress.Documentation, "3fff::1": egress.Documentation,
		"fe80::1%lo": egress.LinkLocal, "fec0::1": egress.Reserved, "fc00::1": egress.Private, "fdff::1": egress.Private, "ff02::1": egress.Multicast,
		"100::1": egress.Reserved, "4000::1": egress.Reserved, "192.0.0.8": egress.Reserved, "192.88.99.1": egress.Tunnel, "198.19.255.255": egress.Reserved,
		"192.0.2.1": egress.Documentation, "198.51.100.1": egress.Documentation, "203.0.113.1": egress.Documentation,
	} {
		if got := egress.Classify(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		allow     []string
		namespace string
		host      string
		port      uint16
		addr      string
		want      bool
	}{
		"nothing is allowed":            {addr: "127.0.0.1"},
		"public is":                     {addr: "8.8.8.8", want: true},
		"loopback":                      {allow: []string{"loopback"}, addr: "127.0.0.9", want: true},
		"loopback, mapped":              {allow: []string{"loopback"}, addr: "::ffff:127.0.0.9", want: true},
		"loopback, v6":                  {allow: []string{"loopback"}, addr: "::1", want: true},
		"loopback isn't private":        {allow: []string{"loopback"}, addr: "10.0.0.1"},
		"loopback isn't 0.0.0.0":        {allow: []string{"loopback"}, addr: "0.0.0.0"},
		"private":                       {allow: []string{"private"}, addr: "10.0.0.1", want: true},
		"private, v6":                   {allow: []string{"private"}, addr: "fd12::1", want: true},
		"private isn't loopback":        {allow: []string{"private"}, addr: "127.0.0.1"},
		"private isn't link-local":      {allow: []string{"private"}, addr: "169.254.169.254"},
		"private isn't metadata":        {allow: []string{"private"}, addr: "fd00:ec2::254"},
		"private isn't CGNAT":           {allow: []string{"private"}, addr: "100.64.0.1"},
		"a range":                       {allow: []string{"10.1.0.0/16"}, addr: "10.1.2.3", want: true},
		"a range, another":              {allow: []string{"10.1.0.0/16"}, addr: "10.2.2.3"},
		"a range by NAT64":              {allow: []string{"10.1.0.0/16"}, addr: "64:ff9b::a01:203", want: true},
		"a range with bits below":       {allow: []string{"10.1.2.3/16"}, addr: "10.1.9.9", want: true},
		"an address":                    {allow: []string{"169.254.169.254"}, addr: "169.254.169.254", want: true},
		"an address with a port":        {allow: []string{"10.0.0.1:80"}, addr: "10.0.0.1", port: 80, want: true},
		"an address with another port":  {allow: []string{"10.0.0.1:80"}, addr: "10.0.0.1", port: 81},
		"a v6 address with a port":      {allow: []string{"[fd12::1]:80"}, addr: "fd12::1", port: 80, want: true},
		"a bare v6 address":             {allow: []string{"fd12::1"}, addr: "fd12::1", port: 80, want: true},
		"a host":                        {allow: []string{"ollama"}, host: "OLLAMA.", addr: "10.0.0.1", want: true},
		"a host with a port":            {allow: []string{"ollama:11434"}, host: "ollama", port: 11434, addr: "10.0.0.1", want: true},
		"a host with another port":      {allow: []string{"ollama:11434"}, host: "ollama", port: 22, addr: "10.0.0.1"},
		"another host, same address":    {allow: []string{"ollama"}, host: "evil.example", addr: "10.0.0.1"},
		"a host opens no metadata":      {allow: []string{"ollama"}, host: "ollama", addr: "169.254.169.254"},
		"a host of a namespace":         {allow: []string{"team-a=ollama"}, namespace: "team-a", host: "ollama", addr: "10.0.0.1", want: true},
		"a host of another namespace":   {allow: []string{"team-a=ollama"}, namespace: "team-b", host: "ollama", addr: "10.0.0.1"},
		"every namespace":               {allow: []string{"team-a=ollama", "10.0.0.0/8"}, namespace: "team-b", host: "ollama", addr: "10.0.0.1", want: true},
		"an IDN host is its ASCII form": {allow: []string{"bücher.example"}, host: "xn--bcher-kva.example", addr: "10.0.0.1", want: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := c.host
			if host == "" {
				host = c.addr
			}
			err := policy(t, c.allow...).For(c.namespace).Check(host, c.port, netip.MustParseAddr(c.addr))
			if (err == nil) != c.want {
				t.Errorf("%v", err)
			}
		})
	}
	if err := policy(t, "team-a=loopback").Check("localhost", 1, netip.MustParseAddr("127.0.0.1")); err == nil {
		t.Error("an item of a namespace counts without one")
	}
	if err := (*egress.Policy)(nil).For("x").WithURL("http://localhost:9/v1").Check("localhost", 9, netip.MustParseAddr("127.0.0.1")); err != nil {
		t.Error(err)
	}
}

func TestParsePolicyFaults(t *testing.T) {
	t.Parallel()
	for _, item := range []string{"", "=loopback", "http://x", "host:", "host:0", "host:99999", "a b", "10.0.0.0/33", "*", "*.example", "x@y", "[::1"} {
		if _, err := egress.ParsePolicy(item); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), `"`+item+`"`) {
			t.Errorf("%q: %v", item, err)
		}
	}
}

// The text names what was denied and the way out.
func TestDeniedText(t *testing.T) {
	t.Parallel()
	got := map[string]string{}
	for host, addr := range map[string]string{
		"ollama": "10.0.0.1", "10.0.0.1": "10.0.0.1", "0x7f000001": "127.0.0.1", "metadata.internal": "169.254.169.254", "169.254.169.254": "169.254.169.254", "::1": "::1", "0.0.0.0": "0.0.0.0",
	} {
		got[host] = policy(t).Check(host, 80, netip.MustParseAddr(addr)).Error()
	}
	want := map[string]string{
		"ollama":            "egress to ollama (10.0.0.1) is denied: a private address; the process may be started with --egress-allow ollama",
		"10.0.0.1":          "egress to 10.0.0.1 is denied: a private address; the process may be started with --egress-allow 10.0.0.1",
		"0x7f000001":        "egress to 0x7f000001 (127.0.0.1) is denied: a loopback address; the process may be started with --egress-allow 127.0.0.1",
		"metadata.internal": "egress to metadata.internal (169.254.169.254) is denied: a link-local address",
		"169.254.169.254":   "egress to 169.254.169.254 is denied: a link-local address",
		"0.0.0.0":           "egress to 0.0.0.0 is denied: an unspecified address; the process may be started with --egress-allow 0.0.0.0",
		"::1":               "egress to ::1 is denied: a loopback address; the process may be started with --egress-allow ::1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
