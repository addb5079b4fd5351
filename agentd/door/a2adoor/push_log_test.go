package a2adoor_test

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/run"
)

// written is a log that may be read while it is written.
type written struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *written) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *written) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// What an address holds besides the host may be a secret: the log says why nothing was delivered, and not where to.
func TestAnAddressIsNotLogged(t *testing.T) {
	t.Parallel()
	var ln net.ListenConfig
	closed, err := ln.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	log := &written{}
	r := newRig(t, func(_ *run.Runtime, c *a2adoor.Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) })
	config := &pb.TaskPushNotificationConfig{Url: "http://" + address + "/T0/path-secret?token=query-secret"}
	c := r.bindings(t, "")["JSONRPC"]
	sent(t, c, say("complete-1", configured(&pb.SendMessageConfiguration{TaskPushNotificationConfig: config})))
	const told = "a push notification was not delivered"
	for end := time.Now().Add(30 * time.Second); !strings.Contains(log.String(), told); {
		if time.Now().After(end) {
			t.Fatalf("the log says nothing: %s", log)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the test ended")
		}
	}
	if said := log.String(); strings.Contains(said, "secret") || !strings.Contains(said, "refused") {
		t.Errorf("the log says %s", said)
	}
}
