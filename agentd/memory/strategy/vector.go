package strategy

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/internal/errs"
)

// The bounds of what is embedded for one request. What is left is embedded for later ones.
const (
	embedBatch   = 64
	embedBytes   = 4 << 10 // of one exchange
	embedTimeout = 10 * time.Second
)

// nearness gives the cosine between the query and each of the first n exchanges, 0 where it is unknown. Exchanges are embedded here, when
// a search first needs them, the newest first, in one call with the query; short sessions never pay for it.
func (m *Memory) nearness(ctx context.Context, k memory.Key, s Session, query string, n int) ([]float64, error) {
	space := m.cfg.EmbeddingModel
	held, err := m.store.Vectors(ctx, k, s.Life, space)
	if err != nil {
		return nil, err
	}
	texts := []string{clip(query)}
	var missing []int
	for i := n - 1; i >= 0 && len(missing) < embedBatch-1; i-- {
		if _, ok := held[s.First+int64(i)]; !ok {
			missing = append(missing, i)
			texts = append(texts, textOf(s.Exchanges[i]))
		}
	}
	ectx, cancel := context.WithTimeout(ctx, embedTimeout)
	defer cancel()
	got, err := m.cfg.Embed(ectx, space, texts)
	if err != nil {
		return nil, err
	}
	if len(got) != len(texts) {
		return nil, errs.New(errs.Unavailable, "memory: the embedding model %q gave %d vectors for %d texts", space, len(got), len(texts))
	}
	wanted := quantise(got[0])
	fresh := make(map[int64][]byte, len(missing))
	known := make(map[int64][]byte, len(held)+len(missing))
	maps.Copy(known, held)
	for at, i := range missing {
		v := quantise(got[at+1])
		fresh[s.First+int64(i)], known[s.First+int64(i)] = v, v
	}
	if len(fresh) > 0 {
		if err := m.store.KeepVectors(ctx, k, s.Life, space, fresh); err != nil { // the next search makes them again
			m.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "embeddings are not kept", slog.String("error", err.Error()))
		}
	}
	out := make([]float64, n)
	for i := range out {
		out[i] = cosine(wanted, known[s.First+int64(i)])
	}
	return out, nil
}

// textOf is what of an exchange is embedded.
func textOf(e []memory.Turn) string {
	var b strings.Builder
	for _, t := range e {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(t.Text)
	}
	return clip(b.String())
}

// clip bounds a text at a whole character; an empty one is a space, since endpoints refuse empty input.
func clip(text string) string {
	if text == "" {
		return " "
	}
	if len(text) <= embedBytes {
		return text
	}
	n := embedBytes
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// middle is the byte that stands for 0.
const middle = 128

// quantise keeps a vector in a byte a dimension: its largest part is 127 from the middle. Nearness needs directions only, so the length is
// not kept.
func quantise(v []float32) []byte {
	largest := 0.0
	for _, x := range v {
		largest = max(largest, math.Abs(float64(x)))
	}
	out := make([]byte, len(v))
	known := largest > 0 && !math.IsInf(largest, 0) // else it has no direction: all 0
	for i, x := range v {
		out[i] = middle
		if known {
			out[i] = byte(middle + math.Round(float64(x)/largest*127))
		}
	}
	return out
}

// cosine of two quantised vectors; 0 where they can't be compared.
func cosine(a, b []byte) float64 {
	if len(a) == 0 || len(a) != len(b) {
		return 0
	}
	var ab, aa, bb int64
	for i := range a {
		x, y := int64(a[i])-middle, int64(b[i])-middle
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return float64(ab) / math.Sqrt(float64(aa)*float64(bb))
}
