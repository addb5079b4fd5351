package scriptmodel

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/fnv"
	"math"
	"net/http"
	"strings"
	"unicode"
)

// dimensions of an embedding when the request names none.
const dimensions = 64

func (s *Server) embeddings(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(w, r)
	if err != nil {
		return
	}
	var in struct {
		Model      string          `json:"model"`
		Input      json.RawMessage `json:"input"`
		Dimensions int             `json:"dimensions"`
		Format     string          `json:"encoding_format"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		writeError(w, http.StatusBadRequest, "invalid_json", err.Error())
		return
	}
	texts, ok := inputs(in.Input)
	if !ok || in.Dimensions < 0 || in.Dimensions > 4096 {
		writeError(w, http.StatusBadRequest, "invalid_input", "input is a text or a list of texts, dimensions 1 to 4096")
		return
	}
	if in.Dimensions == 0 {
		in.Dimensions = dimensions
	}
	ended, _ := s.record(r, &chatRequest{Model: in.Model, user: strings.Join(texts, "\n")}, "embeddings", body)
	type item struct {
		Object    string `json:"object"`
		Index     int    `json:"index"`
		Embedding any    `json:"embedding"`
	}
	out := struct {
		Object string    `json:"object"`
		Model  string    `json:"model"`
		Data   []item    `json:"data"`
		Usage  wireUsage `json:"usage"`
	}{Object: "list", Model: in.Model, Data: make([]item, 0, len(texts))}
	for i, t := range texts {
		v := Embed(t, in.Dimensions)
		it := item{Object: "embedding", Index: i, Embedding: v}
		if in.Format == "base64" {
			raw := make([]byte, 0, 4*len(v))
			for _, f := range v {
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
			}
			it.Embedding = base64.StdEncoding.EncodeToString(raw)
		}
		out.Data = append(out.Data, it)
		out.Usage.PromptTokens += len(t)/4 + 1
	}
	out.Usage.TotalTokens = out.Usage.PromptTokens
	ended()
	writeJSON(w, http.StatusOK, out)
}

func inputs(raw json.RawMessage) ([]string, bool) {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, true
	}
	var many []string
	if json.Unmarshal(raw, &many) != nil {
		return nil, false
	}
	return many, len(many) > 0
}

// Embed gives the vector of a text: words, and pairs of neighbouring characters for scripts without spaces, hashed
// into dims places and scaled to length 1. The same text always gives the same vector; like texts give near ones.
func Embed(text string, dims int) []float32 {
	v := make([]float64, dims)
	add := func(feature string, weight float64) {
		h := fnv.New64a()
		_, _ = h.Write([]byte(feature))
		sum := h.Sum64()
		if sum>>63 == 1 {
			weight = -weight
		}
		v[sum%uint64(dims)] += weight // #nosec G115 -- dims is between 1 and 4096
	}
	text = strings.ToLower(text)
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		add("w:"+word, 1)
		runes := []rune(word)
		for i := 1; i < len(runes); i++ {
			add("p:"+string(runes[i-1:i+1]), 0.5)
		}
	}
	norm := 0.0
	for _, f := range v {
		norm += f * f
	}
	out := make([]float32, dims)
	if norm == 0 {
		out[0] = 1 // a vector of length 0 has no direction to compare
		return out
	}
	for i, f := range v {
		out[i] = float32(f / math.Sqrt(norm))
	}
	return out
}
