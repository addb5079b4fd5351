package view

import (
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
)

// Facts gives what snapshots would read of the head if it were written as it is; a writer resolves with it what it is
// about to write. ModRevision is 0.
func (h PromptHead) Facts() snapshot.PromptHead { return promptNode(h, store.KV{}).built }

// Facts is PromptHead.Facts for an MCP entry; an error means that its tools' decisions have no canonical form.
func (h MCPHead) Facts() (snapshot.MCPHead, error) {
	n, err := mcpNode(h, store.KV{})
	return n.built, err
}

// Facts is PromptHead.Facts for a credential.
func (h CredentialHead) Facts() snapshot.CredentialHead { return credentialNode(h, store.KV{}).built }
