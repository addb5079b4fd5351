package a2adoor

import (
	"context"
	"errors"
	"slices"

	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/errs"
)

// call is one request, whatever the binding.
type call struct {
	caller front.Caller
	owner  task.Owner
	face   run.Face
	base   string // where the caller reached the door
	place  *place // where the config keeps tasks
	legacy bool   // the caller speaks 0.3
}

// params are a request's service parameters (3.2.6), and what the binding knows beside.
type params struct {
	version    string
	extensions []string
	tenant     string
	base       string
	legacy     bool // the request is one of 0.3
	versions   int  // how often the request names a version
}

// enter looks whether the request may be answered at all.
func (d *Door) enter(ctx context.Context, p params) (call, error) {
	face, err := d.face()
	if err != nil {
		return call{}, err
	}
	if p.versions > 1 { // another program on the way may have looked at another one
		return call{}, a2a.Fail(a2a.InvalidRequest, "the request has more than one "+a2a.HeaderVersion+": send one")
	}
	if err := spoken(face, p); err != nil {
		return call{}, err
	}
	for _, x := range d.cfg.Extensions {
		if x.Required && !slices.Contains(p.extensions, x.URI) {
			return call{}, a2a.Fail(a2a.ExtensionSupportRequired, "this agent requires the extension "+x.URI+" (name it in "+a2a.HeaderExtensions+")", "extension", x.URI)
		}
	}
	if p.tenant != "" {
		if err := checkID("tenant", p.tenant); err != nil {
			return call{}, err
		}
	}
	at, err := d.place()
	if err != nil {
		return call{}, err
	}
	c := front.CallerOf(ctx)
	return call{
		caller: c, face: face, base: p.base, place: at, legacy: p.legacy,
		owner: task.Owner{Namespace: face.Namespace, Agent: face.Agent, Principal: c.Principal, Tenant: p.tenant},
	}, nil
}

// face gives what answers now, if this door is open.
func (d *Door) face() (run.Face, error) {
	face, err := d.cfg.Runner.Face(run.DoorA2A)
	switch {
	case err != nil:
		return run.Face{}, a2a.Fail(a2a.Unavailable, err.Error())
	case !face.Open:
		return run.Face{}, a2a.Fail(a2a.MethodNotFound, "the agent does not answer here (expose.a2a is off)")
	}
	return face, nil
}

// activated gives the extensions that a request named and the agent supports.
func (d *Door) activated(asked []string) []string {
	var out []string
	for _, x := range d.cfg.Extensions {
		if slices.Contains(asked, x.URI) {
			out = append(out, x.URI)
		}
	}
	return out
}

// fault gives an error of the protocol for one of ours.
func (d *Door) fault(err error) *a2a.Error {
	var e *a2a.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	}
	switch errs.KindOf(err) {
	case errs.NotFound:
		return a2a.Fail(a2a.TaskNotFound, "there is no such task")
	case errs.Exhausted:
		return a2a.Fail(a2a.Exhausted, err.Error())
	case errs.Unavailable, errs.Timeout, errs.Canceled:
		return a2a.Fail(a2a.Unavailable, err.Error())
	case errs.Invalid:
		return a2a.Fail(a2a.InvalidParams, err.Error())
	case errs.Denied:
		return a2a.Fail(a2a.PermissionDenied, err.Error())
	default:
		return a2a.Of(err)
	}
}

func notFound(id string) *a2a.Error {
	return a2a.Fail(a2a.TaskNotFound, "there is no such task", "taskId", id)
}
