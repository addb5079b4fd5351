package commandtest

import (
	"context"
	"net/http"

	"connectrpc.com/connect"

	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
	"github.com/agentry/agentry/gen/agentry/registry/v1/registryv1connect"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/gen/agentry/release/v1/releasev1connect"
)

// The services beside those of Server. Files of methods whose names stand alone too often begin with their noun:
// CredentialCreate.json, RolloutRetry.json.
type (
	prompts     struct{ s *Server }
	mcps        struct{ s *Server }
	credentials struct{ s *Server }
	rollouts    struct{ s *Server }
)

func (s *Server) registries(mux *http.ServeMux) {
	mux.Handle(registryv1connect.NewPromptServiceHandler(prompts{s}))
	mux.Handle(registryv1connect.NewMcpServiceHandler(mcps{s}))
	mux.Handle(registryv1connect.NewCredentialServiceHandler(credentials{s}))
	mux.Handle(releasev1connect.NewRolloutServiceHandler(rollouts{s}))
}

// SetLabel answers from SetLabel.json.
func (x prompts) SetLabel(_ context.Context, r *connect.Request[registryv1.SetLabelRequest]) (*connect.Response[registryv1.SetLabelResponse], error) {
	return unary[registryv1.SetLabelRequest, registryv1.SetLabelResponse](x.s, "SetLabel", r)
}

// UnsetLabel answers from UnsetLabel.json.
func (x prompts) UnsetLabel(_ context.Context, r *connect.Request[registryv1.UnsetLabelRequest]) (*connect.Response[registryv1.UnsetLabelResponse], error) {
	return unary[registryv1.UnsetLabelRequest, registryv1.UnsetLabelResponse](x.s, "UnsetLabel", r)
}

// LabelHistory answers from LabelHistory.json.
func (x prompts) LabelHistory(_ context.Context, r *connect.Request[registryv1.LabelHistoryRequest]) (*connect.Response[registryv1.LabelHistoryResponse], error) {
	return unary[registryv1.LabelHistoryRequest, registryv1.LabelHistoryResponse](x.s, "LabelHistory", r)
}

// SetEnabled answers from SetEnabled.json.
func (x mcps) SetEnabled(_ context.Context, r *connect.Request[registryv1.SetEnabledRequest]) (*connect.Response[registryv1.SetEnabledResponse], error) {
	return unary[registryv1.SetEnabledRequest, registryv1.SetEnabledResponse](x.s, "SetEnabled", r)
}

// ApproveTools answers from ApproveTools.json.
func (x mcps) ApproveTools(_ context.Context, r *connect.Request[registryv1.ApproveToolsRequest]) (*connect.Response[registryv1.ApproveToolsResponse], error) {
	return unary[registryv1.ApproveToolsRequest, registryv1.ApproveToolsResponse](x.s, "ApproveTools", r)
}

// ListTools answers from ListTools.json.
func (x mcps) ListTools(_ context.Context, r *connect.Request[registryv1.ListToolsRequest]) (*connect.Response[registryv1.ListToolsResponse], error) {
	return unary[registryv1.ListToolsRequest, registryv1.ListToolsResponse](x.s, "ListTools", r)
}

// Probe answers from Probe.json.
func (x mcps) Probe(_ context.Context, r *connect.Request[registryv1.ProbeRequest]) (*connect.Response[registryv1.ProbeResponse], error) {
	return unary[registryv1.ProbeRequest, registryv1.ProbeResponse](x.s, "Probe", r)
}

// Create answers from CredentialCreate.json.
func (x credentials) Create(_ context.Context, r *connect.Request[registryv1.CreateRequest]) (*connect.Response[registryv1.CreateResponse], error) {
	return unary[registryv1.CreateRequest, registryv1.CreateResponse](x.s, "CredentialCreate", r)
}

// Rotate answers from CredentialRotate.json.
func (x credentials) Rotate(_ context.Context, r *connect.Request[registryv1.RotateRequest]) (*connect.Response[registryv1.RotateResponse], error) {
	return unary[registryv1.RotateRequest, registryv1.RotateResponse](x.s, "CredentialRotate", r)
}

// Reseal answers from CredentialReseal.json.
func (x credentials) Reseal(_ context.Context, r *connect.Request[registryv1.ResealRequest]) (*connect.Response[registryv1.ResealResponse], error) {
	return unary[registryv1.ResealRequest, registryv1.ResealResponse](x.s, "CredentialReseal", r)
}

// UsedBy answers from CredentialUsedBy.json.
func (x credentials) UsedBy(_ context.Context, r *connect.Request[registryv1.UsedByRequest]) (*connect.Response[registryv1.UsedByResponse], error) {
	return unary[registryv1.UsedByRequest, registryv1.UsedByResponse](x.s, "CredentialUsedBy", r)
}

// List answers from CredentialList.json.
func (x credentials) List(_ context.Context, r *connect.Request[registryv1.ListRequest]) (*connect.Response[registryv1.ListResponse], error) {
	return unary[registryv1.ListRequest, registryv1.ListResponse](x.s, "CredentialList", r)
}

// Status answers from RolloutStatus.json.
func (x rollouts) Status(_ context.Context, r *connect.Request[releasev1.StatusRequest]) (*connect.Response[releasev1.StatusResponse], error) {
	return unary[releasev1.StatusRequest, releasev1.StatusResponse](x.s, "RolloutStatus", r)
}

// Retry answers from RolloutRetry.json.
func (x rollouts) Retry(_ context.Context, r *connect.Request[releasev1.RetryRequest]) (*connect.Response[releasev1.RetryResponse], error) {
	return unary[releasev1.RetryRequest, releasev1.RetryResponse](x.s, "RolloutRetry", r)
}

// Unhold answers from RolloutUnhold.json.
func (x rollouts) Unhold(_ context.Context, r *connect.Request[releasev1.UnholdRequest]) (*connect.Response[releasev1.UnholdResponse], error) {
	return unary[releasev1.UnholdRequest, releasev1.UnholdResponse](x.s, "RolloutUnhold", r)
}

// Abort answers from RolloutAbort.json.
func (x rollouts) Abort(_ context.Context, r *connect.Request[releasev1.AbortRequest]) (*connect.Response[releasev1.AbortResponse], error) {
	return unary[releasev1.AbortRequest, releasev1.AbortResponse](x.s, "RolloutAbort", r)
}
