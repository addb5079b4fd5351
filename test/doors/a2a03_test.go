package doors

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
)

// TestA2A03 puts the client of A2A 0.3 to an agent that is told to speak it: as it is, and with keys and a signed card.
func TestA2A03(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ a2a, expose, key string }{
		"open":  {a2a: `"v03": true,`},
		"keyed": {a2a: `"v03": true, "signingKey": {"credentialRef": "card-key"},`, expose: `"auth": {"keys": [{"name": "old", "key": "k-0a3e77c1b2"}]},`, key: "k-0a3e77c1b2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, files := conformance(t)
			const path = "a2a-conformance/agent-base.json"
			spec := strings.NewReplacer(`"expose": {`, `"expose": {`+c.expose, `"a2a": {`, `"a2a": {`+c.a2a).Replace(files[path])
			if !strings.Contains(spec, c.a2a) {
				t.Fatal("the example's agent-base.json has no expose.a2a to change")
			}
			files[path] = spec
			if c.key != "" {
				files["card-key.json"] = `{"kind": "Credential", "metadata": {"name": "card-key"}, "spec": {"value": ` + signingKey(t) + `}}`
			}
			node(t, "a2a-03.mjs", "BASE_URL="+w.serve(t, files, "--allow-internal-push").URL(), "KEY="+c.key)
		})
	}
}

// signingKey makes a key for cards, as a JSON string.
func signingKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
