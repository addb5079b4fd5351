package a2a_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/agentry/agentry/internal/a2a"
)

func TestCanonical(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ card, want string }{
		"the specification's example": {
			`{"name":"Example Agent","description":"","capabilities":{"streaming":false,"pushNotifications":false,"extensions":[]},"skills":[]}`,
			`{"capabilities":{"pushNotifications":false,"streaming":false},"description":"","name":"Example Agent","skills":[]}`,
		},
		"signatures":          {`{"name":"a","signatures":[{"protected":"x"}]}`, `{"name":"a"}`},
		"defaults deep down":  {`{"capabilities":{"extensions":[{"uri":"u","required":false,"description":"","params":{}}]}}`, `{"capabilities":{"extensions":[{"params":{},"uri":"u"}]}}`},
		"maps":                {`{"securitySchemes":{},"securityRequirements":[{"schemes":{"bearer":{"list":[]}}}]}`, `{"securityRequirements":[{"schemes":{"bearer":{}}}]}`},
		"optional is kept":    {`{"documentationUrl":""}`, `{"documentationUrl":""}`},
		"null is absent":      {`{"name":"a","provider":null}`, `{"name":"a"}`},
		"what nobody knows":   {`{"later":false,"name":"a"}`, `{"later":false,"name":"a"}`},
		"order and numbers":   {`{"z":1.0e2,"a":{"c":1,"b":2}}`, `{"a":{"b":2,"c":1},"z":100}`},
		"the proto's names":   {`{"default_input_modes":[],"icon_url":"x"}`, `{"default_input_modes":[],"icon_url":"x"}`},
		"twice the same name": {`{"name":"EVIL","name":"a"}`, ""},
		"broken UTF-8":        {"{\"name\":\"\xff\"}", ""},
		"no object":           {`[]`, ""},
		"nothing":             {``, ""},
		"null":                {`null`, ""},
		"two":                 {`{} {}`, ""},
	} {
		got, err := a2a.Canonical([]byte(c.card))
		if c.want == "" {
			if err == nil {
				t.Errorf("%s: %s", name, got)
			}
			continue
		}
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if _, err := a2a.Canonical(bytes.Repeat([]byte(" "), a2a.MaxCard+1)); err == nil {
		t.Error("a card of any size is read")
	}
}

func keyPEM(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for alg, key := range map[string]crypto.Signer{"ES256": p256, "ES384": p384, "RS256": rsaKey, "EdDSA": ed} {
		s, err := a2a.NewSigner(keyPEM(t, key))
		if err != nil {
			t.Fatal(err)
		}
		sig, err := s.Sign([]byte(`{"name":"a","capabilities":{"extensions":[]}}`), "https://example.com/jwks.json")
		if err != nil {
			t.Fatal(err)
		}
		header, err := base64.RawURLEncoding.DecodeString(sig.Protected)
		if err != nil {
			t.Fatal(err)
		}
		var h map[string]string
		if err := json.Unmarshal(header, &h); err != nil || h["alg"] != alg || h["typ"] != "JOSE" || h["kid"] != s.KeyID() || h["jku"] != "https://example.com/jwks.json" {
			t.Errorf("%s: header %s", alg, header)
		}
		card := func(name, protected, signature string) []byte {
			return fmt.Appendf(nil, `{"signatures":[{"protected":%q,"signature":%q}],"capabilities":{},"name":%q,"securitySchemes":{}}`, protected, signature, name)
		}
		trust := func(k crypto.PublicKey) func(string) (crypto.PublicKey, error) {
			return func(kid string) (crypto.PublicKey, error) {
				if kid != s.KeyID() {
					return nil, errors.New("unknown key")
				}
				return k, nil
			}
		}
		if err := a2a.Verify(card("a", sig.Protected, sig.Signature), trust(key.Public())); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"` + s.KeyID() + `"}`))
		hmac := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"` + s.KeyID() + `"}`))
		for fault, c := range map[string]struct {
			card []byte
			keys func(string) (crypto.PublicKey, error)
		}{
			"another name":      {card("b", sig.Protected, sig.Signature), trust(key.Public())},
			"another key":       {card("a", sig.Protected, sig.Signature), trust(other.Public())},
			"no trust":          {card("a", sig.Protected, sig.Signature), func(string) (crypto.PublicKey, error) { return nil, errors.New("not trusted") }},
			"alg none":          {card("a", none, ""), trust(key.Public())},
			"alg none, signed":  {card("a", none, sig.Signature), trust(key.Public())},
			"alg HS256":         {card("a", hmac, sig.Signature), trust(key.Public())},
			"a line break":      {card("a", sig.Protected, sig.Signature[:9]+"\n"+sig.Signature[9:]), trust(key.Public())},
			"padding":           {card("a", sig.Protected, sig.Signature+"="), trust(key.Public())},
			"no signature":      {[]byte(`{"name":"a"}`), trust(key.Public())},
			"signatures odd":    {[]byte(`{"name":"a","signatures":7}`), trust(key.Public())},
			"a member put in":   {bytes.Replace(card("a", sig.Protected, sig.Signature), []byte(`{"sig`), []byte(`{"name":"EVIL","sig`), 1), trust(key.Public())},
			"a member added":    {bytes.Replace(card("a", sig.Protected, sig.Signature), []byte(`"capabilities"`), []byte(`"evil":1,"capabilities"`), 1), trust(key.Public())},
			"a short signature": {card("a", sig.Protected, "AAAA"), trust(key.Public())},
		} {
			if err := a2a.Verify(c.card, c.keys); err == nil {
				t.Errorf("%s: %s verifies", alg, fault)
			}
		}
		var set struct{ Keys []map[string]any }
		if err := json.Unmarshal(s.Keys(), &set); err != nil || len(set.Keys) != 1 || set.Keys[0]["kid"] != s.KeyID() || set.Keys[0]["d"] != nil {
			t.Errorf("%s: keys %s", alg, s.Keys())
		}
	}
}

func TestSigningKeysThatAreNone(t *testing.T) {
	t.Parallel()
	small, _ := rsa.GenerateKey(rand.Reader, 1024)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	for name, text := range map[string][]byte{"nothing": nil, "no PEM": []byte("secret-words"), "no key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret-words")}), "RSA 1024": keyPEM(t, small), "P-521": keyPEM(t, p521)} {
		_, err := a2a.NewSigner(text)
		if err == nil || strings.Contains(err.Error(), "secret-words") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	f.Add([]byte(`{"name":"a","capabilities":{"extensions":[{"uri":"u"}]},"skills":[{"id":"x"}]}`))
	f.Add([]byte(`{"securitySchemes":{"a":{"httpAuthSecurityScheme":{"scheme":""}}},"signatures":[1]}`))
	f.Fuzz(func(t *testing.T, card []byte) {
		once, err := a2a.Canonical(card)
		if err != nil {
			return
		}
		twice, err := a2a.Canonical(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s becomes %s (%v)", once, twice, err)
		}
	})
}

// The official SDKs leave out everything empty before they verify: no card with a security requirement fitted its signature there.
func TestSignForAll(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := a2a.NewSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	for card, want := range map[string]struct {
		lean       string
		signatures int
	}{
		`{"name":"a","version":"1"}`: {`{"name":"a","version":"1"}`, 1},
		`{"name":"a","description":"","securitySchemes":{"b":{"httpAuthSecurityScheme":{"scheme":"Bearer"}}},"securityRequirements":[{"schemes":{"b":{}}}],"skills":[]}`: {
			`{"name":"a","securitySchemes":{"b":{"httpAuthSecurityScheme":{"scheme":"Bearer"}}}}`, 2,
		},
		`{"capabilities":{"streaming":false,"extensions":[{"uri":"u","params":{"n":0,"s":"","l":[""]}}]}}`: {`{"capabilities":{"extensions":[{"params":{"n":0},"uri":"u"}],"streaming":false}}`, 2},
		`{}`: {`{}`, 1},
	} {
		lean, err := a2a.Lean([]byte(card))
		if err != nil || string(lean) != want.lean {
			t.Errorf("%s: lean is %s, %v", card, lean, err)
		}
		signatures, err := s.SignForAll([]byte(card), "")
		if err != nil || len(signatures) != want.signatures {
			t.Fatalf("%s: %d signatures, %v", card, len(signatures), err)
		}
		for i, payload := range []string{card, want.lean}[:want.signatures] {
			signed := strings.TrimSuffix(payload, "}")
			if signed != "{" {
				signed += ","
			}
			signed += fmt.Sprintf(`"signatures":[{"protected":%q,"signature":%q}]}`, signatures[i].Protected, signatures[i].Signature)
			if err := a2a.Verify([]byte(signed), func(string) (crypto.PublicKey, error) { return key.Public(), nil }); err != nil {
				t.Errorf("%s: signature %d: %v", card, i, err)
			}
		}
	}
}
