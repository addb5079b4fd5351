// Package phase holds the closed sets that every part shows alike: instance phases, agent conditions,
// history states and fault codes (semantics.md 6 and 15). Both halves and agentctl use it; it decides nothing.
package phase

// Phase is what one instance is doing with its desired config.
type Phase string

// The phases of an instance. Where the design says APPLIED of a config, DEGRADED counts too.
const (
	Pending  Phase = "PENDING"  // desired differs from running, nothing answered yet
	Received Phase = "RECEIVED" // building for more than 200 ms, or retrying (fault shown)
	Applied  Phase = "APPLIED"  // serving it
	Degraded Phase = "DEGRADED" // serving it with a dependency missing
	Rejected Phase = "REJECTED" // refused; running is another config or nothing
	Stale    Phase = "STALE"    // no beat for 45 s, by the control plane's judgement
	Offline  Phase = "OFFLINE"  // stream gone longer than the lease
	Fenced   Phase = "FENCED"   // an answer, never a state: content was below the fence
)

// Serving reports whether the instance serves the config it answered for.
func (p Phase) Serving() bool { return p == Applied || p == Degraded }

// ConfigState says where the running config came from.
type ConfigState string

// The config states.
const (
	Live     ConfigState = "live"
	LastGood ConfigState = "last_good"
)

// Condition is the state of an agent: the first that holds, in this order.
type Condition string

// The conditions of an agent.
const (
	CondDeleted     Condition = "Deleted"
	CondOffline     Condition = "Offline"     // had instances, none live
	CondRejected    Condition = "Rejected"    // open hold
	CondHeld        Condition = "Held"        // veto or pin
	CondProgressing Condition = "Progressing" // candidate open
	CondDegraded    Condition = "Degraded"    // an instance not on its desired config, or DEGRADED
	CondUnproven    Condition = "Unproven"    // stable was never applied by an instance
	CondSynced      Condition = "Synced"
)

// State is the fate of a revision in history.
type State string

// The states of a revision. A move has none.
const (
	StateStable     State = "stable"
	StateCandidate  State = "candidate"
	StateSuperseded State = "superseded"
	StateRefused    State = "refused"
	StateRolledBack State = "rolled_back"
)

// Severity of a fault. A WARNING never changes the phase.
type Severity string

// The severities.
const (
	Error   Severity = "ERROR"
	Warning Severity = "WARNING"
)

// Code names what went wrong with a resource.
type Code string

// The fault codes.
const (
	// Retryable.
	Unreachable Code = "unreachable"
	Timeout     Code = "timeout"
	HTTP5xx     Code = "http_5xx"
	RateLimited Code = "rate_limited"
	// Not retryable.
	Unauthorized Code = "unauthorized"
	NotMCP       Code = "not_mcp"
	ToolMissing  Code = "tool_missing"
	NotSupported Code = "not_supported"
	Invalid      Code = "invalid"
	HashMismatch Code = "hash_mismatch"
	BootCrash    Code = "boot_crash"
	// Local to the instance, never a refusal.
	NotPersisted Code = "not_persisted"
	StateKey     Code = "state_key"
	// Shown beside a tool whose definition is not among the approved ones.
	ToolChanged Code = "tool_changed"
	Unpinned    Code = "unpinned"
)

// Retryable reports whether the instance goes on trying by itself.
func (c Code) Retryable() bool {
	switch c {
	case Unreachable, Timeout, HTTP5xx, RateLimited:
		return true
	default:
		return false
	}
}

// Known reports whether the code is of the closed set.
func (c Code) Known() bool {
	switch c {
	case Unreachable, Timeout, HTTP5xx, RateLimited, Unauthorized, NotMCP, ToolMissing, NotSupported, Invalid, HashMismatch,
		BootCrash, NotPersisted, StateKey, ToolChanged, Unpinned:
		return true
	default:
		return false
	}
}

// Fault is one thing that an instance found wrong with one resource. Field is the JSON path within it.
type Fault struct {
	Resource  string   `json:"resource"` // kind/name
	Field     string   `json:"field"`
	Code      Code     `json:"code"`
	Message   string   `json:"message"`
	Severity  Severity `json:"severity"`
	Retryable bool     `json:"retryable"`
}
