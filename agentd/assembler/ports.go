package assembler

import (
	"context"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
)

// Credentials gives a credential's value at the moment of a call, so that a rotation rebuilds nothing. It may be called from
// many goroutines; ok is false for an unknown name.
type Credentials func(name string) (v secret.Value, ok bool)

// ModelSettings is what a model client is made of. Settings that are equal but for Credentials share one client.
type ModelSettings struct {
	Spec        spec.Model
	BaseURL     string // the effective one, after an override; never empty
	Credentials Credentials
}

// ModelFactory makes model clients. NewModel does no I/O: no free probe of a model exists. A model that is also an
// io.Closer is closed when the last set that uses it has drained.
type ModelFactory interface {
	NewModel(s ModelSettings) (model.Model, error)
}

// ServerSettings is what a client of one MCP server is made of. Settings that are equal but for Credentials and Changed
// share one client.
type ServerSettings struct {
	Entry       spec.MCPServer
	Ref         spec.MCPServerRef // its tool filter and required are the assembler's business
	Credentials Credentials
	// Changed is to be called after every change of State, from any goroutine; it returns at once.
	Changed func()
}

// ServerFactory makes clients of MCP servers. NewServer does no I/O; an error means that the settings can't be served.
type ServerFactory interface {
	NewServer(s ServerSettings) (Server, error)
}

// Server is a supervised client of one MCP server. Its methods may be used from many goroutines.
type Server interface {
	// Connect waits until the server is connected, initialized and its tools are listed, or an attempt failed: nil at once
	// while connected. The error is a *ServerError. The client keeps trying in the background, with backoff, until
	// Close; ending ctx gives the wait up, not the client.
	Connect(ctx context.Context) error
	// State is how the server stands now. The value is immutable.
	State() ServerState
	// Close ends the client and waits for its goroutines. Twice is once.
	Close() error
}

// ServerError is why a server can't be used.
type ServerError struct {
	Code phase.Code
	Err  error
}

// Error gives the text.
func (e *ServerError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *ServerError) Unwrap() error { return e.Err }

// ServerState is a server's health and what it offers.
type ServerState struct {
	Healthy bool
	// Code and Message say what is wrong while it isn't healthy.
	Code    phase.Code
	Message string
	// Tools is what the server listed last; none while it is not healthy.
	Tools []ServerTool
}

// ServerTool is one tool with the digest of its definition (name, description, schema).
type ServerTool struct {
	Tool   tool.Tool
	Digest string // lower hex SHA-256
}

// StorageSettings is what an agent's storage is made of. Settings that are equal but for Credentials, Embed and Changed share one.
type StorageSettings struct {
	Namespace   string
	Agent       string
	Spec        spec.Memory
	Credentials Credentials
	Embed       model.Embedder // nil: the endpoint has none, or there is no endpoint
	// Changed is to be called after every change of State, from any goroutine; it returns at once.
	Changed func()
}

// StorageFactory makes storages. NewStorage does no I/O; an error means that the settings can't be served. A storage that is also an
// io.Closer is closed when the last set that uses it has drained.
type StorageFactory interface {
	NewStorage(s StorageSettings) (Storage, error)
}

// Storage is where an agent's sessions and suspended runs are kept. Its methods may be used from many goroutines.
type Storage interface {
	Stores() Stores
	// Connect waits until the storage answers, or an attempt failed: nil at once while it does. The error is a *ServerError. Storage that
	// can't be away gives nil.
	Connect(ctx context.Context) error
	// State is how it stands now.
	State() StorageState
}

// Stores are the ports of one storage.
type Stores struct {
	Memory   memory.Memory
	Sessions memory.Sessions
	Pending  pending.Store
	Tasks    task.Store // nil: the process keeps them
}

// StorageState is a storage's health. Code and Message say what is wrong while it isn't healthy.
type StorageState struct {
	Healthy bool
	Code    phase.Code
	Message string
}
