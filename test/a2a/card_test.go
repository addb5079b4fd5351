package a2a

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
)

const cardPath = "/.well-known/agent-card.json"

// page fetches what everybody may read.
func (a *agent) page(t *testing.T, method, url string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := a.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: b}
}

// discovery is section 8.
func discovery() []requirement {
	return slices.Concat(publication(), declaration(), signatures(), caching())
}

func publication() []requirement {
	return []requirement{
		{
			id: "DISC-1", section: "8.1", level: must, what: "there is a card that describes identity, capabilities, skills and how to talk to the agent",
			once: func(t *testing.T, w *world) {
				for _, a := range []*agent{w.main, w.open, w.plain} {
					if c := a.card; c.GetName() == "" || c.GetCapabilities() == nil || len(c.GetSkills()) == 0 || len(c.GetSupportedInterfaces()) == 0 {
						t.Errorf("it is %v", c)
					}
				}
			},
		},
		{
			id: "DISC-2", section: "8.2", level: must, what: "the card is at /.well-known/agent-card.json, for everybody, without a version",
			once: func(t *testing.T, w *world) {
				got := w.main.page(t, http.MethodGet, w.main.URL()+cardPath)
				if got.status != http.StatusOK || !strings.HasPrefix(got.header.Get("Content-Type"), "application/json") {
					t.Errorf("%d %v", got.status, got.header)
				}
				strictly(t, got.body, &pb.AgentCard{})
				if head := w.main.page(t, http.MethodHead, w.main.URL()+cardPath); head.status != http.StatusOK || len(head.body) != 0 {
					t.Errorf("HEAD: %d %s", head.status, head.body)
				}
				if post := w.main.page(t, http.MethodPost, w.main.URL()+cardPath); post.status != http.StatusMethodNotAllowed {
					t.Errorf("POST: %d", post.status)
				}
			},
		},
	}
}

func declaration() []requirement {
	const client = "agentd/door/a2adoor: TestTheClientDoesEveryOperation"
	return []requirement{
		{
			id: "DISC-3", section: "8.3", level: must, what: "the card declares the bindings that are served",
			test: func(t *testing.T, c caller) {
				if c.address[c.binding] == "" { // reach took it from the card
					t.Errorf("the card has %v", c.card.GetSupportedInterfaces())
				}
			},
		},
		{
			id: "DISC-4", section: "8.3.1", level: should, what: "the card has every combination that is served, in the order in which the agent prefers them",
			once: func(t *testing.T, w *world) {
				if have := w.main.card.GetSupportedInterfaces(); len(have) != len(bindings()) || have[0].GetProtocolBinding() != "JSONRPC" {
					t.Errorf("it has %v", have)
				}
			},
		},
		{
			id: "DISC-5", section: "8.3.1", level: must, what: "at each interface's address its binding answers",
			test: func(t *testing.T, c caller) { c.completed(t) },
		},
		{
			id: "DISC-6", section: "8.3.1", level: may, what: "interfaces may have the same address",
			without: "not done: each has its own, on one port",
		},
		{id: "DISC-7", section: "8.3.2", level: must, what: "a client takes the first interface that it can use", elsewhere: client},
		{id: "DISC-8", section: "8.3.2", level: must, what: "a client prefers interfaces in the card's order", elsewhere: client},
		{id: "DISC-9", section: "8.3.2", level: must, what: "a client uses the address of the interface that it took", elsewhere: client},
	}
}

// jws is a signature of a card.
type jws struct {
	Protected string `json:"protected"`
	Signature string `json:"signature"`
}

// canonical gives the bytes that a card's signature is over, of the JSON that was served: RFC 8785 of it without its signatures.
func canonical(t *testing.T, card []byte) []byte {
	t.Helper()
	fields := plainJSON(t, card)
	delete(fields, "signatures")
	var out bytes.Buffer
	enc := json.NewEncoder(&out) // it sorts names; of this card's strings and booleans RFC 8785 wants nothing else
	enc.SetEscapeHTML(false)
	if err := enc.Encode(fields); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// signed reads a card's signatures.
func signed(t *testing.T, card []byte) []jws {
	t.Helper()
	var in struct {
		Signatures []jws `json:"signatures"`
	}
	if err := json.Unmarshal(card, &in); err != nil || len(in.Signatures) == 0 {
		t.Fatalf("no signature: %v\n%s", err, card)
	}
	return in.Signatures
}

// header reads a signature's protected header.
func (s jws) header(t *testing.T) map[string]any {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s.Protected)
	if err != nil {
		t.Fatal(err)
	}
	return plainJSON(t, b)
}

// verifies reports whether a signature is one over payload, by the key at its jku.
func (s jws) verifies(t *testing.T, a *agent, payload []byte) bool {
	t.Helper()
	head := s.header(t)
	jku, _ := head["jku"].(string)
	var set struct {
		Keys []struct{ Kty, Crv, X, Y, Kid string }
	}
	if err := json.Unmarshal(a.page(t, http.MethodGet, jku).body, &set); err != nil {
		t.Fatal(err)
	}
	for _, k := range set.Keys {
		if k.Kid != head["kid"] {
			continue
		}
		x, errX := base64.RawURLEncoding.DecodeString(k.X)
		y, errY := base64.RawURLEncoding.DecodeString(k.Y)
		sig, errSig := base64.RawURLEncoding.DecodeString(s.Signature)
		if errX != nil || errY != nil || errSig != nil || k.Kty != "EC" || k.Crv != "P-256" || len(sig) != 64 {
			t.Fatalf("the key is %+v, the signature %s", k, s.Signature)
		}
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(s.Protected + "." + base64.RawURLEncoding.EncodeToString(payload)))
		return ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
	}
	t.Fatalf("no key %v at %s", head["kid"], jku)
	return false
}

func signatures() []requirement {
	const rules, verifier = "internal/a2a: TestCanonical", "agentd/door/a2adoor: TestSignaturesOfCards"
	rule := func(id, what string) requirement {
		return requirement{id: id, section: "8.4.1", level: must, what: what, elsewhere: rules}
	}
	byClient := func(id string, l level, what string) requirement {
		return requirement{id: id, section: "8.4.3", level: l, what: what, elsewhere: verifier}
	}
	served := func(t *testing.T, w *world) []byte {
		t.Helper()
		return w.main.page(t, http.MethodGet, w.main.URL()+cardPath).body
	}
	heads := func(f func(*testing.T, *agent, map[string]any)) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			t.Helper()
			for _, s := range signed(t, served(t, w)) {
				f(t, w.main, s.header(t))
			}
		}
	}
	return []requirement{
		{
			id: "SIGN-1", section: "8.4", level: may, what: "a card is signed by JWS, where the spec names a key",
			once: func(t *testing.T, w *world) {
				card := served(t, w)
				if s := signed(t, card)[0]; !s.verifies(t, w.main, canonical(t, card)) || s.verifies(t, w.main, canonical(t, bytes.Replace(card, []byte("1.0.0"), []byte("1.0.1"), 1))) {
					t.Error("the signature is not one of this card, or one of another as well")
				}
				if bytes.Contains(w.open.page(t, http.MethodGet, w.open.URL()+cardPath).body, []byte("signatures")) {
					t.Error("a card without a key has signatures")
				}
			},
		},
		{
			id: "SIGN-2", section: "8.4", level: may, what: "the extended card is signed as well",
			test: func(t *testing.T, c caller) {
				if c.binding == gRPC { // which has no JSON of its own to verify
					card := &pb.AgentCard{}
					c.must(t, extendedCard, `{}`, card)
					if len(card.GetSignatures()) == 0 {
						t.Error("it is not signed")
					}
					return
				}
				a := c.ask(t, extendedCard, `{}`)
				if !signed(t, a.result)[0].verifies(t, c.agent, canonical(t, a.result)) {
					t.Error("the signature is not one of this card")
				}
			},
		},
		rule("SIGN-3", "what is signed is canonical by RFC 8785: sorted names, one form of numbers and strings, no white space"),
		rule("SIGN-4", "optional fields that aren't set are not in it"),
		rule("SIGN-5", "optional fields that are set are in it, even to their default"),
		rule("SIGN-6", "required fields are in it always"),
		rule("SIGN-7", "other fields are not in it at their default"),
		{
			id: "SIGN-8", section: "8.4.1", level: must, what: "the signatures are not in it themselves",
			once: func(t *testing.T, w *world) {
				card := served(t, w)
				if s := signed(t, card)[0]; !s.verifies(t, w.main, canonical(t, card)) { // canonical leaves them out
					t.Error("the signature is not over the card without its signatures")
				}
			},
		},
		{
			id: "SIGN-9", section: "8.4.2", level: must, what: "the protected header has alg and kid",
			once: heads(func(t *testing.T, _ *agent, h map[string]any) {
				t.Helper()
				if kid, _ := h["kid"].(string); h["alg"] != "ES256" || kid == "" {
					t.Errorf("it is %v", h)
				}
			}),
		},
		{
			id: "SIGN-10", section: "8.4.2", level: should, what: "its typ is JOSE",
			once: heads(func(t *testing.T, _ *agent, h map[string]any) {
				t.Helper()
				if h["typ"] != "JOSE" {
					t.Errorf("it is %v", h)
				}
			}),
		},
		{
			id: "SIGN-11", section: "8.4.2", level: may, what: "its jku is where the key is, by the card's own address",
			once: heads(func(t *testing.T, a *agent, h map[string]any) {
				t.Helper()
				if jku, _ := h["jku"].(string); !strings.HasPrefix(jku, a.URL()+"/") || a.page(t, http.MethodGet, jku).status != http.StatusOK {
					t.Errorf("it is %v", h)
				}
			}),
		},
		{
			id: "SIGN-12", section: "8.4.2", level: must, what: "header and signature are base64url without padding, and the header is JSON",
			once: heads(func(t *testing.T, _ *agent, h map[string]any) { t.Helper(); _ = h["alg"] }),
		},
		{id: "SIGN-13", section: "8.4.3", level: may, what: "a card may have several signatures", elsewhere: "internal/a2a: TestSignForAll"},
		byClient("SIGN-14", must, "a client takes the signature from the card's signatures"),
		byClient("SIGN-15", must, "a client finds the key by kid and jku, or among those that it trusts"),
		byClient("SIGN-16", must, "a client leaves out what is at its default, and the signatures"),
		byClient("SIGN-17", must, "a client makes the rest canonical and verifies the signature over it"),
		byClient("SIGN-18", should, "a client verifies one signature before it trusts a card"),
		byClient("SIGN-19", may, "a client keeps keys that it trusts"),
		{
			id: "SIGN-20", section: "8.4.3", level: should, what: "keys are fetched over HTTPS",
			without: "on clients: ours takes a jku of the card's own origin only",
		},
		onClients("SIGN-21", "8.4.3", must, "keys that expired or were revoked are not used"),
	}
}

func caching() []requirement {
	return []requirement{
		{
			id: "CACHE-1", section: "8.6.1", level: should, what: "the card has Cache-Control with max-age",
			once: func(t *testing.T, w *world) {
				if h := w.main.page(t, http.MethodGet, w.main.URL()+cardPath).header.Get("Cache-Control"); !strings.Contains(h, "max-age=") {
					t.Errorf("it has %q", h)
				}
			},
		},
		{
			id: "CACHE-2", section: "8.6.1", level: should, what: "the card has an ETag of its content, and who has it already gets 304",
			once: func(t *testing.T, w *world) {
				first := w.main.page(t, http.MethodGet, w.main.URL()+cardPath)
				tag := first.header.Get("Etag")
				for _, have := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
					if again := w.main.page(t, http.MethodGet, w.main.URL()+cardPath, "If-None-Match", have); again.status != http.StatusNotModified || len(again.body) != 0 || again.header.Get("Etag") != tag {
						t.Errorf("with %s: %d %s", have, again.status, again.body)
					}
				}
				if other := w.main.page(t, http.MethodGet, w.main.URL()+cardPath, "If-None-Match", `"other"`); other.status != http.StatusOK || !bytes.Equal(other.body, first.body) {
					t.Errorf("with another: %d %s", other.status, other.body)
				}
			},
		},
		{id: "CACHE-3", section: "8.6.1", level: may, what: "the card has Last-Modified", without: "not done: the ETag does"},
		{id: "CACHE-4", section: "8.6.2", level: should, what: "a client keeps a card as HTTP says", elsewhere: "agentd/door/a2adoor: TestACardIsFetchedOnce"},
		{id: "CACHE-5", section: "8.6.2", level: should, what: "a client asks again with If-None-Match", elsewhere: "agentd/door/a2adoor: TestACardIsFetchedOnce"},
		onClients("CACHE-6", "8.6.2", may, "a client has a default where the server says nothing of caching"),
	}
}
