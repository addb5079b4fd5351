package spec

import (
	"fmt"
	"strings"
)

// EffectsPage gives docs/field-effects.md: for every field of every file, from when a change of it counts.
func EffectsPage() string {
	var b strings.Builder
	b.WriteString(`# From when a changed field counts

Made from the table in internal/spec by ` + "`go test ./internal/spec -run EffectsPage -update`" + `; do not edit.

* **next request**: hot. A request begun before the change ends with the old value.
* **next call**: hot, and counts for the next model, tool or partner call of running requests too.
* **at apply**: the control plane's own; no instance does anything else because of it.
* **restart**: part of an agent's identity; an agentd started for the old value goes on serving that.

`)
	for _, kind := range Kinds() {
		if kind == KindAgent {
			continue // its parts are the files below
		}
		fmt.Fprintf(&b, "## %s\n\n| field | counts from | default | what it is |\n|---|---|---|---|\n", kind)
		rows(&b, "", Fields(kind))
		b.WriteString("\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func rows(b *strings.Builder, path string, fields []Field) {
	for _, f := range fields {
		at := f.Name
		if path != "" {
			at = path + "." + f.Name
		}
		def := ""
		switch {
		case f.Default != "":
			def = "`" + f.Default + "`"
		case f.Required:
			def = "required"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", at, f.Effect, def, strings.ReplaceAll(f.Description, "|", `\|`))
		rows(b, at, f.Fields)
		if f.Item != nil {
			mark := "[]"
			if f.Type == TypeMap {
				mark = ".*"
			}
			rows(b, at+mark, f.Item.Fields)
		}
	}
}
