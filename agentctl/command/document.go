package command

import (
	"encoding/json"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
)

// The documents of -o json. Those of status, history and apply are frozen: see the design's cli page before any change.

// statusDoc is one agent's status.
type statusDoc struct {
	Agent         string        `json:"agent"`
	Namespace     string        `json:"namespace"`
	Condition     string        `json:"condition"`
	Revision      revisionPair  `json:"revision"`
	Config        string        `json:"config"`
	LastRefusal   *refusalDoc   `json:"lastRefusal"`
	FleetComplete bool          `json:"fleetComplete"`
	Instances     []instanceDoc `json:"instances"`
}

type revisionPair struct {
	Desired int64 `json:"desired"`
	Stable  int64 `json:"stable"`
}

type refusalDoc struct {
	Revision     int64      `json:"revision"`
	Config       string     `json:"config"`
	Instance     string     `json:"instance"`
	Faults       []faultDoc `json:"faults"`
	At           time.Time  `json:"at"`
	Action       string     `json:"action"`
	RolledBackTo int64      `json:"rolledBackTo"`
}

type instanceDoc struct {
	ID          string     `json:"id"`
	Endpoint    string     `json:"endpoint"`
	Phase       string     `json:"phase"`
	ConfigState string     `json:"configState"`
	Desired     configDoc  `json:"desired"`
	Running     configDoc  `json:"running"` // of a config "" while it runs nothing
	Faults      []faultDoc `json:"faults"`
	Since       time.Time  `json:"since"`
	Age         float64    `json:"age"` // seconds since its last message
}

type configDoc struct {
	Revision   int64  `json:"revision"`
	Config     string `json:"config"`
	Epoch      uint64 `json:"epoch"`
	Generation int64  `json:"generation"`
	Hash       string `json:"hash"`
}

// faultDoc is what an instance found wrong with a resource.
type faultDoc struct {
	Resource  string `json:"resource"`
	Field     string `json:"field"`
	Code      string `json:"code"`
	Message   string `json:"message"`
	Severity  string `json:"severity"`
	Retryable bool   `json:"retryable"`
}

// historyDoc is one revision or move. State is null for a move.
type historyDoc struct {
	Seq      int64      `json:"seq"`
	Kind     string     `json:"kind"`
	Revision int64      `json:"revision"`
	Config   string     `json:"config"`
	From     string     `json:"from"`
	To       string     `json:"to"`
	Actor    string     `json:"actor"`
	Cause    string     `json:"cause"`
	Message  string     `json:"message"`
	Time     time.Time  `json:"time"`
	State    *string    `json:"state"`
	Faults   []faultDoc `json:"faults"`
}

// applyDoc is what an apply did. Diffs are there with --dry-run only.
type applyDoc struct {
	Results []resultDoc `json:"results"`
	Notes   []string    `json:"notes"`
	Diffs   []diffDoc   `json:"diffs,omitempty"`
}

type resultDoc struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Revision  int64  `json:"revision"`
	Action    string `json:"action"`
}

// faultsDoc is what is wrong with files.
type faultsDoc struct {
	Faults []fileFaultDoc `json:"faults"`
}

type fileFaultDoc struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Path    string `json:"path"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// objectDoc is one stored thing. Spec is null for credentials: values are write-only.
type objectDoc struct {
	Kind          string          `json:"kind"`
	Namespace     string          `json:"namespace"`
	Name          string          `json:"name"`
	Revision      int64           `json:"revision"`
	Version       string          `json:"version"`
	Labels        []string        `json:"labels"`
	Condition     string          `json:"condition"`
	Deleted       bool            `json:"deleted"`
	Hash          string          `json:"hash"`
	Updated       time.Time       `json:"updated"`
	UpdatedBy     string          `json:"updatedBy"`
	StoreRevision int64           `json:"storeRevision"`
	Spec          json.RawMessage `json:"spec"`
}

type diffDoc struct {
	Kind    string      `json:"kind"`
	Name    string      `json:"name"`
	Changes []changeDoc `json:"changes"`
}

// changeDoc is one changed path; null: absent.
type changeDoc struct {
	Path   string          `json:"path"`
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
}

func toStatus(s *releasev1.AgentStatus) statusDoc {
	d := statusDoc{
		Agent: s.GetAgent(), Namespace: s.GetNamespace(), Condition: s.GetCondition(),
		Revision: revisionPair{Desired: s.GetDesiredRevision(), Stable: s.GetStableRevision()},
		Config:   s.GetConfig(), FleetComplete: s.GetFleetComplete(), Instances: []instanceDoc{},
	}
	if r := s.GetLastRefusal(); r != nil {
		d.LastRefusal = &refusalDoc{
			Revision: r.GetRevision(), Config: r.GetConfig(), Instance: r.GetInstance(), Faults: toFaults(r.GetFaults()),
			At: timeOf(r.GetAt()), Action: r.GetAction(), RolledBackTo: r.GetRolledBackTo(),
		}
	}
	for _, i := range s.GetInstances() {
		d.Instances = append(d.Instances, instanceDoc{
			ID: i.GetId(), Endpoint: i.GetEndpoint(), Phase: i.GetPhase(), ConfigState: i.GetConfigState(),
			Desired: toConfig(i.GetDesired()), Running: toConfig(i.GetRunning()), Faults: toFaults(i.GetFaults()),
			Since: timeOf(i.GetSince()), Age: i.GetAge().AsDuration().Truncate(time.Millisecond).Seconds(),
		})
	}
	return d
}

func toConfig(c *releasev1.ConfigRef) configDoc {
	return configDoc{Revision: c.GetRevision(), Config: c.GetConfig(), Epoch: c.GetEpoch(), Generation: c.GetGeneration(), Hash: c.GetHash()}
}

// wireFault is what the faults of both services have in common.
type wireFault interface {
	GetResource() string
	GetField() string
	GetCode() string
	GetMessage() string
	faultRest
}

type faultRest interface {
	GetSeverity() string
	GetRetryable() bool
}

func toFaults[F wireFault](in []F) []faultDoc {
	out := make([]faultDoc, 0, len(in))
	for _, f := range in {
		out = append(out, faultDoc{
			Resource: f.GetResource(), Field: f.GetField(), Code: f.GetCode(), Message: f.GetMessage(),
			Severity: f.GetSeverity(), Retryable: f.GetRetryable(),
		})
	}
	return out
}

func toHistory(in []*specv1.HistoryEntry) []historyDoc {
	out := make([]historyDoc, 0, len(in))
	for _, e := range in {
		d := historyDoc{
			Seq: e.GetSeq(), Kind: e.GetKind(), Revision: e.GetRevision(), Config: e.GetConfig(), From: e.GetFrom(), To: e.GetTo(),
			Actor: e.GetActor(), Cause: e.GetCause(), Message: e.GetMessage(), Time: timeOf(e.GetTime()), Faults: toFaults(e.GetFaults()),
		}
		if s := e.GetState(); s != "" {
			d.State = &s
		}
		out = append(out, d)
	}
	return out
}

func toObject(o *specv1.Object) objectDoc {
	d := objectDoc{
		Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName(), Revision: o.GetRevision(), Version: o.GetVersion(),
		Labels: append([]string{}, o.GetLabels()...), Condition: o.GetCondition(), Deleted: o.GetDeleted(), Hash: o.GetHash(),
		Updated: timeOf(o.GetUpdated()), UpdatedBy: o.GetUpdatedBy(), StoreRevision: o.GetStoreRevision(),
	}
	d.Spec = rawJSON(o.GetJson())
	return d
}

func toDiffs(in []*specv1.ObjectDiff) []diffDoc {
	out := make([]diffDoc, 0, len(in))
	for _, o := range in {
		d := diffDoc{Kind: o.GetKind(), Name: o.GetName(), Changes: []changeDoc{}}
		for _, ch := range o.GetChanges() {
			d.Changes = append(d.Changes, changeDoc{Path: ch.GetPath(), Before: rawJSON(ch.GetBefore()), After: rawJSON(ch.GetAfter())})
		}
		out = append(out, d)
	}
	return out
}

// rawJSON passes JSON through; nothing, or what isn't JSON, becomes null or a text.
func rawJSON(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	if json.Valid([]byte(s)) {
		return json.RawMessage(s)
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil
	}
	return b
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
