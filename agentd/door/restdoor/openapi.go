package restdoor

import (
	_ "embed" // the description
	"encoding/json"
	"maps"
	"net/http"

	"github.com/agentry/agentry/agentd/run"
)

//go:embed openapi.json
var description []byte

// describe answers with the OpenAPI description under the agent's own name.
func (d *Door) describe(w http.ResponseWriter, _ *http.Request) {
	face, err := d.cfg.Runner.Face(run.DoorREST)
	if err != nil {
		d.fail(w, err)
		return
	}
	info := map[string]string{"title": face.Agent, "version": face.Config, "description": face.A2A.Description}
	if face.A2A.DisplayName != "" {
		info["title"] = face.A2A.DisplayName
	}
	b, err := json.Marshal(info)
	if err != nil {
		d.fail(w, err)
		return
	}
	doc := maps.Clone(d.openAPI)
	doc["info"] = b
	if !face.Keys { // nothing has to be shown, so nothing is asked for
		delete(doc, "security")
	}
	writeJSON(w, http.StatusOK, doc)
}
