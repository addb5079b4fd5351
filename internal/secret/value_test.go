package secret_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/agentry/agentry/internal/secret"
)

const canary = `sk-canary/9"7<&>+é~ value`

func TestValueIsNeverPrinted(t *testing.T) {
	v := secret.NewValue(canary)
	type nested struct {
		V secret.Value            `json:"v"`
		P *secret.Value           `json:"p"`
		M map[string]secret.Value `json:"m"`

		hidden secret.Value // fmt calls no method of an unexported field
	}
	n := nested{V: v, P: &v, M: map[string]secret.Value{"k": v}, hidden: v}
	var out strings.Builder
	for verb := range strings.SplitSeq("v,+v,#v,s,q,x,X,d,t,b,o,O,c,U,e,E,f,F,g,G,p,T,10s,-10q,.3s", ",") {
		for _, x := range []any{v, &v, n, &n, []secret.Value{v}, n.M} {
			fmt.Fprintf(&out, "%"+verb+"\n", x)
		}
	}
	fmt.Fprintln(&out, fmt.Errorf("call with %v: %w", v, errors.New("refused")), fmt.Sprint(v), fmt.Sprintln(v))
	for _, x := range []any{v, &v, n, &n, n.M} {
		b, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("x", slog.Any("v", v), slog.Any("p", &v), slog.Any("n", n), slog.Any("m", n.M), slog.Group("g", slog.Any("v", v)))
	}
	if strings.Contains(out.String(), "canary") {
		t.Errorf("the secret was printed:\n%s", out.String())
	}
	if v.Reveal() != canary || v.IsZero() || !(secret.Value{}).IsZero() {
		t.Error("Reveal or IsZero is wrong")
	}
}

func TestRedactor(t *testing.T) {
	var r secret.Redactor
	if got := r.Redact("nothing known"); got != "nothing known" {
		t.Errorf("empty redactor changed the text to %q", got)
	}
	r.Add(secret.NewValue(canary), secret.NewValue("abc"), secret.NewValue(""))
	jsonForm, _ := json.Marshal(canary)
	cases := map[string]string{
		"raw":    canary,
		"base64": "c2stY2FuYXJ5LzkiNzwmPivDqX4gdmFsdWU=",
		"query":  "sk-canary%2F9%227%3C%26%3E%2B%C3%A9~+value",
		"json":   string(jsonForm[1 : len(jsonForm)-1]),
		"quoted": strings.Trim(fmt.Sprintf("%q", canary), `"`),
		"hex":    fmt.Sprintf("%x", canary),
		"HEX":    fmt.Sprintf("%X", canary),
		"cut":    canary[:12],
	}
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			got := r.Redact("before " + text + " after")
			if !strings.HasPrefix(got, "before "+secret.Redacted) || !strings.HasSuffix(got, " after") {
				t.Errorf("got %q", got)
			}
			if strings.Contains(got, text) {
				t.Errorf("%q is still there: %q", text, got)
			}
		})
	}
	if got := r.Redact("abc is too short to blank out"); got != "abc is too short to blank out" {
		t.Errorf("got %q", got)
	}
}

func TestRedactorForgetsTheOldest(t *testing.T) {
	var r secret.Redactor
	for i := range 4097 {
		r.Add(secret.NewValue(fmt.Sprintf("secret-number-%05d-end", i)))
	}
	if got := r.Redact("secret-number-04096-end"); got != secret.Redacted {
		t.Errorf("newest: %q", got)
	}
}

func TestHandlerRedactsEveryShape(t *testing.T) {
	var r secret.Redactor
	r.Add(secret.NewValue(canary))
	type body struct{ Inner *struct{ Text string } }
	deep := body{Inner: &struct{ Text string }{canary}}
	for name, make := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			log := slog.New(secret.NewHandler(make(&out), &r)).With(slog.String("with", canary)).WithGroup("g")
			log.Info("message "+canary, slog.String("s", canary), slog.Any("err", fmt.Errorf("dial %s: refused", canary)),
				slog.Any("deep", deep), slog.Any("bytes", []byte(canary)), slog.Group("in", slog.String("s", canary)), slog.Int("n", 7))
			got := out.String()
			if strings.Contains(got, "canary") || strings.Contains(got, "c2stY2FuYXJ5") {
				t.Errorf("the secret was logged: %s", got)
			}
			if !strings.Contains(got, "7") || !strings.Contains(got, "refused") {
				t.Errorf("other attributes are gone: %s", got)
			}
		})
	}
}

func TestWriterRedacts(t *testing.T) {
	var r secret.Redactor
	r.Add(secret.NewValue(canary))
	var out bytes.Buffer
	n, err := r.Writer(&out).Write([]byte("a " + canary + " b\n"))
	if err != nil || n != len(canary)+5 || out.String() != "a "+secret.Redacted+" b\n" {
		t.Errorf("wrote %d %v %q", n, err, out.String())
	}
}
