package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// encodings are the forms in which a secret could lie somewhere.
func encodings(secret string) map[string][]byte {
	quoted, _ := json.Marshal(secret)
	var plain bytes.Buffer
	enc := json.NewEncoder(&plain)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(secret)
	forms := map[string][]byte{
		"raw":                 []byte(secret),
		"first 12 characters": []byte(secret[:12]),
		"JSON":                bytes.Trim(quoted, `"`),
		"JSON without HTML":   bytes.Trim(bytes.TrimSpace(plain.Bytes()), `"`),
		"URL query":           []byte(url.QueryEscape(secret)),
		"URL path":            []byte(url.PathEscape(secret)),
		"hex":                 []byte(hex.EncodeToString([]byte(secret))),
		"HEX":                 []byte(strings.ToUpper(hex.EncodeToString([]byte(secret)))),
	}
	for name, e := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		// Within a longer text base64 depends on the offset: drop what neighbours would change.
		for offset := range 3 {
			text := e.EncodeToString(append(make([]byte, offset), secret...))
			forms[name+string(rune('0'+offset))] = []byte(text[4 : len(text)-4])
		}
	}
	return forms
}

// hunt looks for many secrets at once, in one pass over what is searched.
type hunt struct {
	heads map[uint64][]needle // by the first 8 bytes
	seen  []bool              // hashes of the heads
	homes map[string]string   // secret -> the one file that may hold it
	met   map[string]bool     // whether it did
}

type needle struct {
	secret, form string
	text         []byte
}

const headSize = 8

func newHunt() *hunt {
	return &hunt{heads: map[uint64][]needle{}, seen: make([]bool, 1<<16), homes: map[string]string{}, met: map[string]bool{}}
}

func spot(head uint64) uint64 { return head * 0x9E3779B97F4A7C15 >> 48 }

// add takes a secret in its forms; home, when set, is the one file (below the Env's folder) that may hold it.
func (h *hunt) add(name, home string, forms map[string][]byte) {
	for form, text := range forms {
		if len(text) < headSize {
			continue
		}
		head := binary.LittleEndian.Uint64(text)
		h.heads[head] = append(h.heads[head], needle{name, form, text})
		h.seen[spot(head)] = true
	}
	if home != "" {
		h.homes[name] = home
	}
}

// text takes a secret that is text, or bytes of which the first 12 are secret too.
func (h *hunt) text(t *testing.T, name, home, secret string) {
	t.Helper()
	if len(secret) < 12 {
		t.Fatalf("the secret %q is empty or too short to be found: %d bytes", name, len(secret))
	}
	h.add(name, home, encodings(secret))
}

// key takes a private key (PKCS #8): its number in every form, and the lines of its PEM.
func (h *hunt) key(t *testing.T, name, home string, der []byte) {
	t.Helper()
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatalf("%s is a %T", name, parsed)
	}
	number, err := private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	forms := encodings(string(number))
	forms["decimal"] = []byte(new(big.Int).SetBytes(number).String())
	for i, line := range bytes.Split(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), []byte("\n")) {
		if len(line) == 64 { // the last one may hold the public half alone
			forms["PEM line "+string(rune('0'+i))] = line
		}
		if i == 2 {
			break
		}
	}
	h.add(name, home, forms)
}

// in gives the secrets that lie in b, and where.
func (h *hunt) in(b []byte) (found []needle, at []int) {
	for i := 0; i+headSize <= len(b); i++ {
		head := binary.LittleEndian.Uint64(b[i:])
		if !h.seen[spot(head)] {
			continue
		}
		for _, n := range h.heads[head] {
			if bytes.HasPrefix(b[i:], n.text) {
				found, at = append(found, n), append(at, i)
			}
		}
	}
	return found, at
}

// search fails the test for every secret in b, which lies at where.
func (h *hunt) search(t *testing.T, where string, b []byte) {
	t.Helper()
	found, at := h.in(b)
	for i, n := range found {
		if h.homes[n.secret] == where {
			h.met[n.secret] = true
			continue
		}
		t.Errorf("the secret %q lies in %s as %s, near %q", n.secret, where, n.form, b[max(0, at[i]-80):at[i]])
	}
}

// away gives the secrets that weren't found where they must be.
func (h *hunt) away() []string {
	var out []string
	for name := range h.homes {
		if !h.met[name] {
			out = append(out, name)
		}
	}
	return out
}

// files searches every file below a folder and gives how many there are.
func (h *hunt) files(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n++
		rel, err := filepath.Rel(dir, path)
		h.search(t, rel, bytes.TrimRight(b, "\x00")) // what etcd has set aside
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return n
}

// sinkBuffer keeps every body that is posted to it, as a collector of OpenTelemetry.
type sinkBuffer struct {
	mu     sync.Mutex // guards what follows
	b      bytes.Buffer
	posts  map[string]int // by path
	header http.Header    // of the newest
}

func (s *sinkBuffer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.b.Write(body)
	if s.posts == nil {
		s.posts = map[string]int{}
	}
	s.posts[r.URL.Path]++
	s.header = r.Header
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (s *sinkBuffer) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Len()
}

func (s *sinkBuffer) Bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.b.Bytes())
}

// got gives how many bodies were posted to a path, and a header of the newest of all.
func (s *sinkBuffer) got(path, header string) (posts int, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.posts[path], s.header.Get(header)
}

// The hunt finds what it is for, in every form and at every place.
func TestTheHuntFindsEverything(t *testing.T) {
	t.Parallel()
	h := newHunt()
	for name, value := range planted() {
		h.text(t, name, "", value)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	h.key(t, "private", "", der)
	finds := func(what string, b []byte, secret string) {
		t.Helper()
		if found, _ := h.in(b); !slices.ContainsFunc(found, func(n needle) bool { return n.secret == secret }) {
			t.Errorf("%s: %s isn't found", secret, what)
		}
	}
	for name, value := range planted() {
		for form, text := range encodings(value) {
			finds(form, slices.Concat([]byte("x="), text, []byte(`"`)), name)
		}
		finds("a struct", fmt.Appendf(nil, "%+v", struct{ Key string }{value}), name)
		finds("in basic authentication", []byte(base64.StdEncoding.EncodeToString([]byte("user:"+value))), name)
	}
	for what, b := range map[string][]byte{
		"DER":    der,
		"PEM":    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"base64": []byte(base64.StdEncoding.EncodeToString(der)),
		"hex":    fmt.Appendf(nil, "%x", der),
		"number": fmt.Appendf(nil, "%v", new(big.Int).SetBytes(der[36:68])),
	} {
		finds(what, b, "private")
	}
	if found, _ := h.in([]byte("nothing of interest, agt_ and pl4nted alone")); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}
