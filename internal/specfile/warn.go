package specfile

import (
	"slices"
	"strings"

	"github.com/agentry/agentry/internal/spec"
)

// Warnings lists, without their values, the literal secrets of a set and the texts elsewhere that look like one. They are no faults:
// apply splits the former out and stores the latter as they are.
func Warnings(s *Set) []Note {
	var notes []Note
	for _, a := range s.Agents {
		for _, l := range Literals(&a.Spec) {
			notes = append(notes, Note{Place: a.Locate(l.Path), Text: "a literal value stands here; apply keeps it as credential " + l.CredentialName})
		}
	}
	return append(notes, Suspicious(s)...)
}

// Suspicious lists, without their values, the texts that look like a secret where none is split out.
func Suspicious(s *Set) []Note {
	var notes []Note
	for _, a := range s.Agents {
		var places []string
		for _, l := range Literals(&a.Spec) {
			places = append(places, l.Path)
		}
		notes = append(notes, suspicious(a.Object, places)...)
	}
	for _, p := range s.Prompts {
		notes = append(notes, suspicious(p.Object, nil)...)
	}
	for _, m := range s.MCPServers {
		notes = append(notes, suspicious(m.Object, nil)...)
	}
	return notes
}

// suspicious walks every text of an object's document but those at the given paths.
func suspicious(o Object, except []string) []Note {
	var notes []Note
	var walk func(n *node, path string)
	walk = func(n *node, path string) {
		if slices.Contains(except, path) || strings.Contains(path, ".approve[") {
			return
		}
		if n.kind == text && slices.ContainsFunc(word.FindAllString(n.text, -1), looksSecretWord) {
			notes = append(notes, Note{Place: n.place(), Text: "something here looks like a key or token; name a credential instead"})
		}
		for _, m := range n.members {
			walk(m.value, spec.Child(path, m.name))
		}
		for i := range n.items {
			walk(n.items[i], spec.Index(path, i))
		}
	}
	if o.root != nil {
		walk(o.root, "")
	}
	return notes
}

// looksSecretWord looks at the parts of a word, for a key may stand in an address: ?key=abc.
func looksSecretWord(w string) bool {
	return slices.ContainsFunc(separator.Split(w, -1), spec.LooksSecret)
}
