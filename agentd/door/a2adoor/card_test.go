package a2adoor_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	old "github.com/a2aproject/a2a-go/a2apb"
	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"github.com/go-jose/go-jose/v4"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/secret"
)

func fetch(t *testing.T, url string, header ...string) (plain, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	p, b := read(t, resp)
	return p, []byte(b)
}

func TestCard(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(rt *run.Runtime, _ *a2adoor.Config) {
		rt.Inbound.Keys = keyed("ci")
		rt.A2A.Skills = []run.Skill{{ID: "nacos", Description: "Runs registries.", Examples: []string{"list services"}}}
	})
	resp, b := fetch(t, r.URL+"/.well-known/agent-card.json") // without a key and without a version
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Cache-Control") == "" || resp.Header.Get("Etag") == "" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	card := &pb.AgentCard{}
	mustParse(t, b, card)
	switch {
	case card.GetName() != "Helper" || card.GetVersion() != "1.2.0" || card.GetDescription() != "Helps.":
		t.Errorf("card is %v", card)
	case len(card.GetSupportedInterfaces()) != 3 || card.GetSupportedInterfaces()[0].GetUrl() != r.URL+"/a2a" || card.GetSupportedInterfaces()[2].GetUrl() != r.URL[len("http://"):]:
		t.Errorf("interfaces are %v", card.GetSupportedInterfaces())
	case !card.GetCapabilities().GetStreaming() || !card.GetCapabilities().GetPushNotifications() || !card.GetCapabilities().GetExtendedAgentCard():
		t.Errorf("capabilities are %v", card.GetCapabilities())
	case card.GetSecuritySchemes()["bearer"].GetHttpAuthSecurityScheme().GetScheme() != "Bearer" || len(card.GetSecurityRequirements()) != 2:
		t.Errorf("security is %v", card.GetSecuritySchemes())
	case card.GetSkills()[0].GetName() != "nacos" || len(card.GetSkills()[0].GetTags()) == 0:
		t.Errorf("skills are %v", card.GetSkills())
	}
	for _, i := range card.GetSupportedInterfaces() {
		if i.GetProtocolVersion() != "1.0" {
			t.Errorf("interface %v", i)
		}
	}
	again, _ := fetch(t, r.URL+"/.well-known/agent-card.json", "If-None-Match", `W/"x", `+resp.Header.Get("Etag"))
	if again.StatusCode != http.StatusNotModified {
		t.Errorf("asked again: %s", again.Status)
	}
}

func TestExtendedCard(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(rt *run.Runtime, _ *a2adoor.Config) { rt.Inbound.Keys = keyed("ci") })
	for name, c := range r.bindings(t, "key-of-ci") {
		out := &pb.AgentCard{}
		if f := c.call(t, "GetExtendedAgentCard", &pb.GetExtendedAgentCardRequest{}, out); f != nil || out.GetName() != "Helper" || out.GetSupportedInterfaces()[0].GetUrl() != r.URL+"/a2a" {
			t.Errorf("%s: %v %+v", name, out, f)
		}
	}
}

// Who asks by gRPC under TLS is shown addresses under TLS, though none is configured.
func TestExtendedCardUnderTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(rt *run.Runtime, _ *a2adoor.Config) { rt.Inbound.Keys, rt.A2A.V03 = keyed("ci"), true })
	s := httptest.NewUnstartedServer(r.Config.Handler)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	conn, err := grpc.NewClient(s.Listener.Addr().String(), grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(roots, "")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := grpcClient{svc: pb.NewA2AServiceClient(conn), key: "key-of-ci"}
	card := &pb.AgentCard{}
	if f := c.call(t, "GetExtendedAgentCard", &pb.GetExtendedAgentCardRequest{}, card); f != nil {
		t.Fatalf("%+v", f)
	}
	for _, i := range card.GetSupportedInterfaces() {
		if i.GetProtocolBinding() != "GRPC" && !strings.HasPrefix(i.GetUrl(), s.URL+"/a2a") {
			t.Errorf("%s is at %s", i.GetProtocolBinding(), i.GetUrl())
		}
	}
	before, err := old.NewA2AServiceClient(conn).GetAgentCard(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer key-of-ci"), &old.GetAgentCardRequest{})
	if err != nil || !strings.HasPrefix(before.GetUrl(), s.URL+"/a2a") {
		t.Errorf("0.3: %s, %v", before.GetUrl(), err)
	}
}

func TestSignedCard(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	log := &written{}
	r := newRig(t, func(rt *run.Runtime, cfg *a2adoor.Config) {
		rt.A2A.SigningKey = func() secret.Value { return secret.NewValue(string(text)) }
		cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	})
	first, card := fetch(t, r.URL+"/.well-known/agent-card.json")
	second, same := fetch(t, r.URL+"/.well-known/agent-card.json")
	if first.Header.Get("Etag") != second.Header.Get("Etag") || string(card) != string(same) {
		t.Error("the card changes from one request to the next")
	}
	_, keys := fetch(t, r.URL+"/.well-known/jwks.json")
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(keys, &set); err != nil {
		t.Fatal(err)
	}
	asked := ""
	err = a2a.Verify(card, func(kid string) (crypto.PublicKey, error) {
		asked = kid
		found := set.Key(kid)
		if len(found) != 1 || !found[0].IsPublic() {
			t.Fatalf("keys are %s", keys)
		}
		return found[0].Key, nil
	})
	if err != nil || asked == "" {
		t.Errorf("the card does not verify: %v", err)
	}
	asFrom := func(host string) (signed bool) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL+"/.well-known/agent-card.json", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Signatures []a2a.Signature `json:"signatures"`
		}
		err = json.NewDecoder(resp.Body).Decode(&got)
		_ = resp.Body.Close()
		if err != nil {
			t.Errorf("asked as %s: %v", host, err)
		}
		return len(got.Signatures) > 0
	}
	for host, want := range map[string]bool{
		"evil.example.com": false, "203.0.113.7:8800": false, "localhost.evil.com": false, "[2001:db8::1]:80": false,
		"agent:8800": true, "localhost": true, "10.0.0.7:8800": true, "[::1]:80": true,
	} {
		if got := asFrom(host); got != want {
			t.Errorf("asked as %s: signed is %t", host, got)
		}
	}
	const said = "the card is not signed for a host"
	if n := strings.Count(log.String(), said); n != 4 || strings.Count(log.String(), "host=evil.example.com") != 1 || strings.Contains(log.String(), "host=localhost ") {
		t.Errorf("the log says %s", log)
	}
	for i := range 40 { // asked again, and under more names than anybody wants to read
		asFrom("evil.example.com")
		asFrom(fmt.Sprintf("h%d.example.com", i))
	}
	if n := strings.Count(log.String(), said); n != 16 || strings.Count(log.String(), "host=evil.example.com") != 1 {
		t.Errorf("the log says it %d times", n)
	}
}
