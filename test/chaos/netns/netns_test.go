package netns

import (
	"io"
	"net"
	"testing"
	"time"
)

// echo answers datagrams on a host until the test ends.
func echo(t *testing.T, h *Host) (addr string) {
	t.Helper()
	var conn net.PacketConn
	if err := h.enter(func() error {
		var err error
		conn, err = (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", h.IP+":0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		b := make([]byte, 64)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(b[:n], from)
		}
	}()
	return conn.LocalAddr().String()
}

// ping sends datagrams from a host, one after the other, and tells how many came back.
func ping(t *testing.T, from *Host, addr string, count int) (back int) {
	t.Helper()
	conn, err := from.Dial(t.Context(), "udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	b := make([]byte, 64)
	for range count {
		if _, err := conn.Write([]byte("ping")); err != nil {
			continue // what is dropped on its way out is said so
		}
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := conn.Read(b); err == nil {
			back++
		}
	}
	return back
}

// What a rule is about is dropped, and nothing else.
func TestHostsAreCutOffAndHealed(t *testing.T) {
	if err := Available(); err != nil {
		t.Skipf("NOT RUN: a network of namespaces %v", err)
	}
	n, err := New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	var hosts []*Host
	for _, name := range []string{"a", "b", "c"} {
		h, err := n.Add(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	a, b, c := hosts[0], hosts[1], hosts[2]
	at := map[*Host]string{a: echo(t, a), b: echo(t, b), c: echo(t, c)}
	reaches := func(from, to *Host, want bool) {
		t.Helper()
		if back := ping(t, from, at[to], 1); (back == 1) != want {
			t.Errorf("%s reaches %s: want %t", from.Name, to.Name, want)
		}
	}
	reaches(a, b, true)
	if err := a.Cut(t.Context(), In, b); err != nil {
		t.Fatal(err)
	}
	reaches(a, b, false)
	reaches(b, a, false)
	reaches(a, c, true)
	if dropped, err := a.Heal(t.Context()); err != nil || dropped == 0 {
		t.Errorf("%d packets were dropped, %v", dropped, err)
	}
	reaches(b, a, true)

	if err := a.Lose(t.Context(), 50, Both, b, c); err != nil {
		t.Fatal(err)
	}
	if back := ping(t, a, at[b], 20); back == 20 {
		t.Error("nothing was lost")
	}
	if dropped, err := a.Heal(t.Context()); err != nil || dropped == 0 {
		t.Errorf("%d packets were lost, %v", dropped, err)
	}

	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close() // the port is free here, and there
	var there net.Listener
	if err := a.enter(func() error {
		var err error
		there, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	go func() {
		conn, err := there.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "hello")
		_ = conn.Close()
	}()
	if err := n.Forward(a, addr); err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "hello" {
		t.Errorf("forwarded: %q, %v", got, err)
	}
	_, _ = conn.Close(), there.Close()
}

// Packets wait as long as they were told to.
func TestPacketsAreDelayed(t *testing.T) {
	if err := CanDelay(); err != nil {
		t.Skipf("NOT RUN: delayed packets %v", err)
	}
	n, err := New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	a, err := n.Add(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.Add(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	x, err := a.Delay(t.Context(), 80*time.Millisecond, 0)
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	if back := ping(t, a, echo(t, b), 1); back != 1 || time.Since(before) < 80*time.Millisecond {
		t.Errorf("%d came back after %s", back, time.Since(before))
	}
	if waited, err := x.Heal(t.Context()); err != nil || waited == 0 {
		t.Errorf("%d packets waited, %v", waited, err)
	}
}
