package restdoor

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/agentry/agentry/agentd/door/front"
)

// maxListed bounds a list.
const maxListed = 1000

type turnDoc struct {
	Role   string    `json:"role"`
	Text   string    `json:"text"`
	At     time.Time `json:"at"`
	Config string    `json:"config,omitempty"` // of an assistant's: the one that answered
	Tools  []toolDoc `json:"tools,omitempty"`  // what was called on the way to it, as far as it is remembered
}

type toolDoc struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
	Result    string `json:"result"`
	IsError   bool   `json:"isError,omitempty"`
}

type sessionDoc struct {
	Session string    `json:"session"`
	Turns   int       `json:"turns"`
	Updated time.Time `json:"updated"`
}

// limit reads ?limit=; 0 where there is none.
func limit(r *http.Request) (int, *inputError) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxListed {
		return 0, bad("limit", "limit: must be a number from 1 to %d", maxListed)
	}
	return n, nil
}

func (d *Door) sessions(w http.ResponseWriter, r *http.Request) {
	n, fault := limit(r)
	if fault != nil {
		writeError(w, fault.status, fault.Fault)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	held, err := d.cfg.Runner.Sessions(ctx, front.CallerOf(r.Context()).Principal, n)
	if err != nil {
		d.fail(w, err)
		return
	}
	out := make([]sessionDoc, len(held))
	for i, s := range held {
		out[i] = sessionDoc(s)
	}
	writeJSON(w, http.StatusOK, map[string]any{"sessions": out})
}

func (d *Door) history(w http.ResponseWriter, r *http.Request) {
	n, fault := limit(r)
	id, badID := session(r)
	if fault == nil {
		fault = badID
	}
	if fault != nil {
		writeError(w, fault.status, fault.Fault)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	turns, err := d.cfg.Runner.History(ctx, front.CallerOf(r.Context()).Principal, id, n)
	if err != nil {
		d.fail(w, err)
		return
	}
	out := make([]turnDoc, len(turns))
	for i, t := range turns {
		out[i] = turnDoc{Role: t.Role, Text: t.Text, At: t.At, Config: t.Config}
		for _, use := range t.Tools {
			out[i].Tools = append(out[i].Tools, toolDoc(use))
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"session": id, "turns": out})
}

func (d *Door) forget(w http.ResponseWriter, r *http.Request) {
	id, fault := session(r)
	if fault != nil {
		writeError(w, fault.status, fault.Fault)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	if err := d.cfg.Runner.Forget(ctx, front.CallerOf(r.Context()).Principal, id); err != nil {
		d.fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
