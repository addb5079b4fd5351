package a2adoor_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/secret"
)

// TestLegacyCard: one card for both, with a signature for each way of reading it; without 0.3 there is none of this.
func TestLegacyCard(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	trust := func(string) (crypto.PublicKey, error) { return key.Public(), nil }
	r := newRig03(t, func(rt *run.Runtime, _ *a2adoor.Config) {
		rt.Inbound.Keys = keyed("ci")
		rt.A2A.SigningKey = func() secret.Value { return secret.NewValue(text) }
	})
	resp, b := fetch(t, r.URL+"/.well-known/agent-card.json")
	var card map[string]any
	if err := json.Unmarshal(b, &card); err != nil || resp.Header.Get("Vary") != "A2A-Version" {
		t.Fatalf("%v: %v %s", err, resp.Header, b)
	}
	for path, want := range map[string]any{
		"protocolVersion": "0.3.0", "url": r.URL + "/a2a", "preferredTransport": "JSONRPC", "supportsAuthenticatedExtendedCard": true,
	} {
		if card[path] != want {
			t.Errorf("%s is %v, want %v", path, card[path], want)
		}
	}
	if at03(card, "securitySchemes", "bearer", "type") != "http" || at03(card, "securitySchemes", "bearer", "httpAuthSecurityScheme", "scheme") != "Bearer" || at03(card, "securitySchemes", "apiKey", "in") != "header" || at03(card, "security", 1) == nil {
		t.Errorf("security is %v, %v", card["securitySchemes"], card["security"])
	}
	if at03(card, "additionalInterfaces", 2, "transport") != "GRPC" || at03(card, "additionalInterfaces", 1, "url") != r.URL+"/a2a" {
		t.Errorf("interfaces are %v", card["additionalInterfaces"])
	}
	if err := a2a.Verify(b, trust); err != nil {
		t.Errorf("as it came: %v", err)
	}
	// As a reader of 1.0's types has it.
	today := &pb.AgentCard{}
	if err := a2a.Unmarshal(b, today); err != nil {
		t.Fatal(err)
	}
	if len(today.GetSupportedInterfaces()) != 6 || today.GetSupportedInterfaces()[3].GetProtocolVersion() != "0.3" {
		t.Errorf("interfaces are %v", today.GetSupportedInterfaces())
	}
	typed, err := a2a.Marshal(today)
	if err != nil {
		t.Fatal(err)
	}
	if err := a2a.Verify(typed, trust); err != nil {
		t.Errorf("as 1.0 reads it: %v", err)
	}
	_, pure := fetch(t, r.URL+"/.well-known/agent-card.json", "A2A-Version", "1.0")
	if strings.Contains(string(pure), "preferredTransport") || a2a.Verify(pure, trust) != nil {
		t.Errorf("who names 1.0 reads %s", pure)
	}

	extended, code := rpc03(t, r, "agent/getAuthenticatedExtendedCard", `{}`, "Authorization", "Bearer key-of-ci")
	if code != 0 || extended["protocolVersion"] != "0.3.0" || at03(extended, "signatures", 1) == nil {
		t.Errorf("%v, %d", extended, code)
	}
	if _, b := ask(t, http.MethodGet, r.URL+"/a2a/v1/card", "", "Authorization", "Bearer key-of-ci"); !strings.Contains(b, `"protocolVersion":"0.3.0"`) || !strings.Contains(b, `"security":[{"schemes":`) {
		t.Error(b)
	}
	if resp, b := ask(t, http.MethodGet, r.URL+"/a2a/v1/card", ""); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(b, `"code":-31401`) {
		t.Errorf("%s %s", resp.Status, b)
	}

	off := newRig(t)
	if _, b := fetch(t, off.URL+"/.well-known/agent-card.json"); strings.Contains(string(b), "0.3") || strings.Contains(string(b), "preferredTransport") {
		t.Errorf("without 0.3 the card is %s", b)
	}
}
