package gate

import "testing"

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1:7700": true, "localhost": true, "LOCALHOST:1": true, "[::1]:7700": true, "example.com:7700": false, "10.0.0.1": false, "": false,
	} {
		if got := loopback(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}
