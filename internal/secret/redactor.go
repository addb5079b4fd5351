package secret

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	// minRedacted is the shortest secret that is redacted, in bytes: shorter ones would blank out ordinary text.
	minRedacted = 5
	// prefixLen is how much of a secret's beginning is redacted where text was cut off.
	prefixLen = 12
	// maxRedacted bounds the set; the oldest secret is forgotten when it is full.
	maxRedacted = 4096
)

// Redactor replaces known secrets in text: as they are, and in base64, URL-escaped, JSON-escaped and hex form, and
// their first 12 characters. The zero Redactor knows none. It is safe for concurrent use.
type Redactor struct {
	mu       sync.Mutex
	known    []string // oldest first; guarded by mu, like the two below
	set      map[string]bool
	replacer *strings.Replacer // nil: to be built
}

// Add makes secrets known; ones shorter than 5 bytes are left out.
func (r *Redactor) Add(values ...Value) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range values {
		s := v.Reveal()
		if len(s) < minRedacted || r.set[s] {
			continue
		}
		if r.set == nil {
			r.set = map[string]bool{}
		}
		if len(r.known) == maxRedacted {
			delete(r.set, r.known[0])
			r.known = slices.Delete(r.known, 0, 1)
		}
		r.set[s] = true
		r.known = append(r.known, s)
		r.replacer = nil
	}
}

// Redact gives text with every known secret replaced.
func (r *Redactor) Redact(text string) string {
	if p := r.current(); p != nil {
		return p.Replace(text)
	}
	return text
}

// Writer redacts what passes to w. A secret that is split over two writes is not found: give it whole lines.
func (r *Redactor) Writer(w io.Writer) io.Writer { return redactingWriter{r: r, w: w} }

type redactingWriter struct {
	r *Redactor
	w io.Writer
}

// Write reports len(p) when the redacted text was written whole.
func (w redactingWriter) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.w, w.r.Redact(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (r *Redactor) current() *strings.Replacer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.replacer != nil || len(r.known) == 0 {
		return r.replacer
	}
	var forms []string
	for _, s := range r.known {
		forms = append(forms, encodings(s)...)
		if len(s) > prefixLen {
			forms = append(forms, encodings(s[:prefixLen])...)
		}
	}
	// The replacer takes the first that fits at a place: longest first, so that a whole secret goes as one.
	slices.SortFunc(forms, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	forms = slices.Compact(forms)
	pairs := make([]string, 0, 2*len(forms))
	for _, f := range forms {
		pairs = append(pairs, f, Redacted)
	}
	r.replacer = strings.NewReplacer(pairs...)
	return r.replacer
}

// encodings gives a secret in the forms in which it turns up in text.
func encodings(s string) []string {
	b := []byte(s)
	forms := []string{
		s,
		base64.RawStdEncoding.EncodeToString(b), // the padded form begins with it
		base64.RawURLEncoding.EncodeToString(b),
		url.QueryEscape(s), url.PathEscape(s),
		hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)),
	}
	if q := strconv.Quote(s); len(q) > 2 {
		forms = append(forms, q[1:len(q)-1])
	}
	if q, err := json.Marshal(s); err == nil {
		forms = append(forms, string(q[1:len(q)-1]))
	}
	var plain strings.Builder // JSON that leaves <, > and & as they are
	enc := json.NewEncoder(&plain)
	enc.SetEscapeHTML(false)
	if enc.Encode(s) == nil {
		forms = append(forms, strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(plain.String()), `"`), `"`))
	}
	return slices.DeleteFunc(forms, func(f string) bool { return len(f) < minRedacted })
}
