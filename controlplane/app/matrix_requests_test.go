package app

import (
	"encoding/base64"
	"strings"
)

// ask is how the matrix makes a method's request, so that whoever may call it changes nothing.
type ask struct {
	// json is the request beside what the rule names: namespace, kind and name. $NAME stands for the target's name.
	json string
	// named is a request of several objects that is about one by its name all the same.
	named bool
	// kinds are the kinds that a request may be about, where it says its kind; default: the rule's.
	kinds []string
	// fine is what the handler itself asks of a caller that the gate lets in.
	fine func(p *person, t target) verdict
	// lists gives the permission and the kind of the objects that the answer holds, and where they stand in it: a path of fields to the
	// namespace ("": the request's) and to the name, behind a repeated field or in each message of a stream.
	lists *listing
	// elsewhere: the method isn't on the people door.
	elsewhere bool
	// once: the call ends the token that it is made with.
	once bool
}

type listing struct {
	permission, kind      string
	items, namespace, key string
	// bookmark ends the present objects of a stream; without one as many messages are read as are expected.
	bookmark bool
}

// needs asks for a permission on the target. Who may not even read it is told that it doesn't exist, where missing is set.
func needs(permission string, missing bool) func(*person, target) verdict {
	return func(p *person, t target) verdict {
		switch {
		case p.holds(permission, t):
			return allowed
		case missing:
			return absent
		}
		return denied
	}
}

// set is a set of files with the target, as it is stored.
func matrixSet(name string) string {
	file := func(path, content string) string {
		return `{"path": "` + path + `", "content": "` + base64.StdEncoding.EncodeToString([]byte(content)) + `"}`
	}
	team := map[string]string{"bot": "a", "other": "b"}[name]
	return `"files": [` + file("set/"+name+"/agent-base.json", `{"promptKey": "bot", "labels": {"team": "`+team+`"}}`) + `,` +
		file("set/"+name+"/model.json", `{"model": "m", "baseUrl": "http://127.0.0.1:1/v1"}`) + `]`
}

// asks says for every method how it is asked. A method that isn't here fails the matrix.
func asks() map[string]ask {
	dry := ask{json: `{"dryRun": true}`}
	plain := ask{}
	set := `{"dryRun": true, $SET}`
	return map[string]ask{
		"/agentry.spec.v1.SpecService/Apply":    {json: set, named: true, fine: needs("spec.write", false)},
		"/agentry.spec.v1.SpecService/Validate": {json: `{$SET}`},
		"/agentry.spec.v1.SpecService/Get":      {kinds: []string{"agent", "prompt", "mcp", "credential"}},
		"/agentry.spec.v1.SpecService/List": {
			json: `{"kind": "agent"}`, lists: &listing{permission: "spec.read", kind: "agent", items: "objects", namespace: "namespace", key: "name"},
		},
		"/agentry.spec.v1.SpecService/Watch": {
			json: `{"kind": "credential"}`, lists: &listing{permission: "spec.read", kind: "credential", items: "object", namespace: "namespace", key: "name", bookmark: true},
		},
		"/agentry.spec.v1.SpecService/History":  {kinds: []string{"agent", "credential"}},
		"/agentry.spec.v1.SpecService/Diff":     {json: `{"kind": "agent", "name": "$NAME"}`, named: true, fine: needs("spec.read", true)},
		"/agentry.spec.v1.SpecService/Rollback": dry,
		"/agentry.spec.v1.SpecService/Delete": {json: `{"dryRun": true, "force": true}`, kinds: []string{"agent", "prompt", "credential"}, fine: func(p *person, t target) verdict {
			if t.kind == "credential" {
				return needs("credential.write", false)(p, t)
			}
			return allowed
		}},
		"/agentry.spec.v1.SpecService/Export": {json: `{"kind": "agent", "names": ["$NAME"]}`, named: true, fine: needs("spec.read", true)},
		"/agentry.spec.v1.SpecService/Schema": plain,

		"/agentry.release.v1.StatusService/GetStatus": plain,
		"/agentry.release.v1.StatusService/ListStatus": {
			lists: &listing{permission: "release.read", kind: "agent", items: "statuses", namespace: "namespace", key: "agent"},
		},
		"/agentry.release.v1.StatusService/WatchStatus": {
			lists: &listing{permission: "release.read", kind: "agent", items: "status", namespace: "namespace", key: "agent"},
		},
		"/agentry.release.v1.StatusService/WatchEvents": plain,
		"/agentry.release.v1.StatusService/Info":        plain,

		"/agentry.release.v1.RolloutService/Status": plain,
		"/agentry.release.v1.RolloutService/Retry":  dry,
		"/agentry.release.v1.RolloutService/Unhold": dry,
		"/agentry.release.v1.RolloutService/Abort":  dry,

		"/agentry.registry.v1.CredentialService/Create": {json: `{"dryRun": true, "value": "eA=="}`},
		"/agentry.registry.v1.CredentialService/Rotate": {json: `{"dryRun": true, "value": "eA=="}`},
		"/agentry.registry.v1.CredentialService/UsedBy": plain,
		"/agentry.registry.v1.CredentialService/Reseal": plain,
		"/agentry.registry.v1.CredentialService/List": {
			lists: &listing{permission: "spec.read", kind: "credential", items: "credentials", key: "name"},
		},
		"/agentry.registry.v1.PromptService/SetLabel":     {json: `{"dryRun": true, "label": "prod", "version": "1.0.0"}`},
		"/agentry.registry.v1.PromptService/UnsetLabel":   {json: `{"dryRun": true, "label": "prod"}`},
		"/agentry.registry.v1.PromptService/LabelHistory": plain,
		"/agentry.registry.v1.McpService/SetEnabled":      {json: `{"dryRun": true, "enabled": false}`},
		"/agentry.registry.v1.McpService/ApproveTools":    dry,
		"/agentry.registry.v1.McpService/ListTools":       plain,
		"/agentry.registry.v1.McpService/Probe":           plain,

		"/agentry.access.v1.AccessService/LoginInfo":       plain,
		"/agentry.access.v1.AccessService/Login":           {json: `{"idToken": "no"}`},
		"/agentry.access.v1.AccessService/Bootstrap":       {json: `{"bootstrapToken": "no"}`},
		"/agentry.access.v1.AccessService/Logout":          {once: true},
		"/agentry.access.v1.AccessService/WhoAmI":          plain,
		"/agentry.access.v1.AccessService/CanI":            {json: `{"permission": "spec.read"}`},
		"/agentry.access.v1.AccessService/ListPermissions": plain,
		"/agentry.access.v1.AccessService/CreateToken":     {json: `{"name": "t", "ttl": "-1s"}`},
		"/agentry.access.v1.AccessService/ListTokens":      plain,
		"/agentry.access.v1.AccessService/RevokeToken":     {json: `{"token": "nobodys"}`},
		"/agentry.access.v1.AccessService/ListRoles":       plain,
		"/agentry.access.v1.AccessService/SetRole":         {json: `{"role": {"name": "admin"}}`},
		"/agentry.access.v1.AccessService/DeleteRole":      {json: `{"name": "admin"}`},
		"/agentry.access.v1.AccessService/ListBindings":    plain,
		"/agentry.access.v1.AccessService/SetBinding":      {json: `{"binding": {"name": "b", "role": "nobodys"}}`},
		"/agentry.access.v1.AccessService/DeleteBinding":   {json: `{"name": "nobodys"}`},

		"/agentry.identity.v1.IdentityService/CreateJoinToken": {json: `{"ttl": "-1s"}`},
		"/agentry.identity.v1.IdentityService/ListJoinTokens":  plain,
		"/agentry.identity.v1.IdentityService/DeleteJoinToken": {json: `{"id": "nobodys"}`},
		"/agentry.identity.v1.IdentityService/ListIdentities":  plain,
		"/agentry.identity.v1.IdentityService/Revoke":          {json: `{"instance": "no/such"}`},
		"/agentry.identity.v1.IdentityService/GetAuthority":    plain,
		"/agentry.identity.v1.IdentityService/RotateAuthority": {json: `{"step": "ROTATION_STEP_RETIRE"}`},
		"/agentry.identity.v1.EnrollService/Enroll":            {elsewhere: true},
		"/agentry.identity.v1.EnrollService/Renew":             {elsewhere: true},
		"/agentry.push.v1.ConfigService/Stream":                {elsewhere: true},
		"/agentry.peer.v1.PeerService/Link":                    {elsewhere: true},
		"/agentry.cluster.v1.ClusterService/GetCluster":        plain,
		"/agentry.cluster.v1.ClusterService/Backup":            plain,
		"/agentry.cluster.v1.ClusterService/Restore":           {json: `{"options": {"dryRun": true, "asIs": true}}`},
		"/agentry.audit.v1.AuditService/List":                  plain,
		"/agentry.audit.v1.AuditService/Watch":                 {json: `{"sinceSeq": "-1"}`},
		"/agentry.audit.v1.AuditService/Chain":                 plain,
	}
}

// fill gives the request's JSON for a target.
func (a ask) fill(t target) string {
	text := a.json
	if text == "" {
		text = "{}"
	}
	name := t.name
	if name == "" {
		name = "bot"
	}
	return strings.NewReplacer("$SET", matrixSet(name), "$NAME", t.name).Replace(text)
}
