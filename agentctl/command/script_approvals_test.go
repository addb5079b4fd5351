package command_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// desk answers about the suspended runs of dir/approvals.json; one that was decided has gone on when it is asked for again.
func desk(ts *testscript.TestScript, mux *http.ServeMux, dir string) {
	b, err := os.ReadFile(filepath.Clean(filepath.Join(dir, "approvals.json")))
	if os.IsNotExist(err) {
		return
	}
	ts.Check(err)
	var runs []map[string]any
	ts.Check(json.Unmarshal(b, &runs))
	key, err := os.ReadFile(filepath.Clean(filepath.Join(dir, "key")))
	if err != nil && !os.IsNotExist(err) {
		ts.Check(err)
	}
	var mu sync.Mutex // guards runs
	fail := func(w http.ResponseWriter, status int, code, message string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": code, "message": message}})
	}
	guarded := func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			want := strings.TrimSpace(string(key))
			switch got := r.Header.Get("Authorization"); {
			case want != "" && got == "":
				fail(w, http.StatusUnauthorized, "unauthenticated", "a key is needed")
			case want != "" && got != "Bearer "+want:
				fail(w, http.StatusForbidden, "not_approver", "only an approver may decide")
			default:
				next(w, r)
			}
		}
	}
	byID := func(id string) map[string]any {
		for _, run := range runs {
			if run["id"] == id {
				return run
			}
		}
		return nil
	}
	mux.HandleFunc("GET /api/v1/approvals", guarded(func(w http.ResponseWriter, r *http.Request) {
		out := []map[string]any{}
		for _, run := range runs {
			if r.URL.Query().Get("state") == "all" || run["state"] == "waiting" {
				out = append(out, run)
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"approvals": out})
	}))
	mux.HandleFunc("GET /api/v1/approvals/{id}", guarded(func(w http.ResponseWriter, r *http.Request) {
		run := byID(r.PathValue("id"))
		if run == nil {
			fail(w, http.StatusNotFound, "not_found", "no such run")
			return
		}
		_ = json.NewEncoder(w).Encode(run)
		if run["state"] == "running" {
			run["state"] = "done"
			run["result"] = map[string]any{"text": "refunded A-7"}
		}
	}))
	mux.HandleFunc("POST /api/v1/approvals/{id}", guarded(func(w http.ResponseWriter, r *http.Request) {
		run := byID(r.PathValue("id"))
		switch {
		case run == nil:
			fail(w, http.StatusNotFound, "not_found", "no such run")
			return
		case run["state"] != "waiting":
			fail(w, http.StatusConflict, "decided", "the run was decided before")
			return
		}
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "decided.json"), append(body, '\n'), 0o600)
		}
		if err != nil {
			fail(w, http.StatusInternalServerError, "internal", err.Error())
			return
		}
		run["state"] = "running"
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(run)
	}))
}
