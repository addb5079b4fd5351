package a2a

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/proto"
)

// safety is sections 13.3, 13.4 and 14.
func safety() []requirement {
	return slices.Concat(extendedAccess(), practice(), privacy(), registrations())
}

func extendedAccess() []requirement {
	extended := func(t *testing.T, c caller) *pb.AgentCard {
		t.Helper()
		out := &pb.AgentCard{}
		c.must(t, extendedCard, `{}`, out)
		return out
	}
	return []requirement{
		{
			id: "ACCESS-1", section: "13.3", level: must, what: "the extended card is for callers who show a key",
			test: func(t *testing.T, c caller) { c.as("").rejected(t, extendedCard, `{}`) },
		},
		{
			id: "ACCESS-2", section: "13.3", level: must, what: "each security scheme of the public card opens it",
			test: func(t *testing.T, c caller) {
				extended(t, c)
				extended(t, c.as("").with("X-API-Key", c.world.alice))
			},
		},
		{
			id: "ACCESS-3", section: "13.3", level: may, what: "the extended card differs from caller to caller",
			without: "not done: it is the same for every key",
		},
		{
			id: "ACCESS-4", section: "13.3", level: should, what: "the extended card says how long it may be kept, and that by its reader alone",
			on: []binding{rest}, without: "JSON-RPC and gRPC have no caching",
			test: func(t *testing.T, c caller) {
				if h := c.ask(t, extendedCard, `{}`).header.Get("Cache-Control"); !strings.Contains(h, "private") || !strings.Contains(h, "max-age=") {
					t.Errorf("it has %q", h)
				}
			},
		},
		{
			id: "ACCESS-5", section: "13.3", level: may, what: "the extended card has further skills: the agent's tools",
			elsewhere: "agentd/door/a2adoor: TestExtendedCard",
		},
		{
			id: "ACCESS-6", section: "13.3", level: may, what: "the extended card tells of limits, quotas, or what is set for the caller's organization",
			without: "not done",
		},
		{
			id: "ACCESS-7", section: "13.3", level: should, what: "what each level of access shows is written down", without: "docs/a2a.md, Spec: the tools too, for callers who show a key",
		},
		{
			id: "ACCESS-8", section: "13.3", level: should, what: "the extended card has nothing that could be misused: no key, no credential's name, no address inside",
			test: func(t *testing.T, c caller) {
				card := string(c.ask(t, extendedCard, `{}`).body)
				for _, secret := range []string{c.world.alice, c.world.bob, "credentialRef", "card-key", c.world.model} {
					if strings.Contains(card, secret) {
						t.Errorf("it has %s: %s", secret, card)
					}
				}
			},
		},
		{
			id: "ACCESS-9", section: "13.3", level: must, what: "who may is looked at before anything of it is told",
			test: func(t *testing.T, c caller) {
				if a := c.as("wrong").rejected(t, extendedCard, `{}`); strings.Contains(string(a.body), "skills") {
					t.Errorf("%s", a.body)
				}
			},
		},
		onClients("ACCESS-10", "13.3", should, "a client uses the extended card in the public one's place while it is authenticated"),
		{
			id: "ACCESS-11", section: "13.3", level: should, what: "the extended card has a version, as the public card has",
			test: func(t *testing.T, c caller) {
				if v := extended(t, c).GetVersion(); v == "" || v != c.card.GetVersion() {
					t.Errorf("it has %q", v)
				}
			},
		},
		{
			id: "ACCESS-12", section: "13.3", level: must, what: "where the card doesn't announce one, asking for it is UnsupportedOperation",
			test: func(t *testing.T, c caller) {
				c.at(c.world.open).refused(t, extendedCard, `{}`, "UNSUPPORTED_OPERATION")
			},
		},
		{
			id: "ACCESS-13", section: "13.3", level: must, what: "where one is announced and there is none, it is ExtendedAgentCardNotConfigured",
			without: "does not arise: where the card announces one there is one",
		},
	}
}

func practice() []requirement {
	return []requirement{
		{id: "SAFE-1", section: "13.4", level: must, what: "connections are encrypted", elsewhere: "agentd/app: TestRunWithTLS"},
		{id: "SAFE-2", section: "13.4", level: should, what: "TLS is of version 1.3, with strong ciphers", without: deployed},
		{id: "SAFE-3", section: "13.4", level: should, what: "HSTS is set", without: deployed},
		{id: "SAFE-4", section: "13.4", level: should, what: "old versions of TLS are off", without: deployed},
		{
			id: "SAFE-5", section: "13.4", level: must, what: "everything that comes is looked at before it is used",
			test: func(t *testing.T, c caller) {
				long := strings.Repeat("x", 300)
				for name, request := range map[string]string{
					"a long message id": message(t, "x", "message.messageId", long), "a control character": message(t, "x", "message.contextId", "a\u0001b"),
					"a long context": message(t, "x", "message.contextId", long), "an empty part": message(t, "x", "message.parts", []any{object{}}),
					"an address that is none": message(t, "x", "message.parts", []any{object{"url": "javascript:alert(1)"}}), "a negative length": message(t, "x", "configuration.historyLength", -1),
				} {
					if f := c.refused(t, sendMessage, request, "INVALID_PARAMS"); f.detail("BadRequest") == nil {
						t.Errorf("%s: %+v", name, f)
					}
				}
				c.in(long).refused(t, listTasks, `{}`, "INVALID_PARAMS")
			},
		},
		{
			id: "SAFE-6", section: "13.4", level: should, what: "messages, files and requests have bounds, and what is larger is refused",
			test: func(t *testing.T, c caller) {
				a := c.try(t, sendMessage, message(t, "x", "message.parts", []any{object{"text": strings.Repeat("x", 5<<20)}}))
				if a.fault == nil || c.binding != gRPC && (a.fault.reason() != "REQUEST_TOO_LARGE" || a.status != http.StatusRequestEntityTooLarge) {
					t.Errorf("%d %+v", a.status, a.fault)
				}
				parts := make([]any, 300)
				for i := range parts {
					parts[i] = object{"text": "x"}
				}
				c.refused(t, sendMessage, message(t, "x", "message.parts", parts), "INVALID_PARAMS")
			},
		},
		{
			id: "SAFE-7", section: "13.4", level: should, what: "media types of files are looked at, and those that the card doesn't name are refused",
			test: func(t *testing.T, c caller) {
				for _, part := range []object{{"raw": "TVqQAAMAAAAEAAAA"}, {"raw": "AAAA", "mediaType": "application/x-msdownload"}, {"url": "https://example.com/x", "mediaType": "video/mp4"}} {
					c.refused(t, sendMessage, message(t, "x", "message.parts", []any{part}), "CONTENT_TYPE_NOT_SUPPORTED")
				}
			},
		},
		{
			id: "SAFE-8", section: "13.4", level: must, what: "keys, tokens and other credentials are secrets: no answer and no log has them",
			test: func(t *testing.T, c caller) {
				token := "token-" + uuid()
				task := c.completed(t, "configuration.taskPushNotificationConfig", object{"url": "http://127.0.0.1:9/", "token": token, "authentication": object{"scheme": "Bearer", "credentials": token}})
				c.as(token).rejected(t, getTask, text(t, object{"id": task.GetId()}))
				seen := c.Output() + text(t, c.get(t, task.GetId())) + string(c.as(token).try(t, listTasks, `{}`).body)
				for _, secret := range []string{token, c.world.alice, c.world.bob} {
					if strings.Contains(seen, secret) {
						t.Errorf("%s was shown", secret)
					}
				}
			},
		},
		{id: "SAFE-9", section: "13.4", level: should, what: "credentials are changed now and then", without: "on who runs it: agentctl credential rotates without a restart"},
		{id: "SAFE-10", section: "13.4", level: should, what: "credentials travel on encrypted connections alone", without: deployed},
		{id: "SAFE-11", section: "13.4", level: should, what: "a key that is taken away counts no more, from the next request on", elsewhere: "agentd/door/front: TestChangesCountAtOnce"},
		{id: "SAFE-12", section: "13.4", level: should, what: "attempts to guess a key are limited", elsewhere: "agentd/door/front: TestRates, TestRatesOfTheOpen"},
		{id: "SAFE-13", section: "13.4", level: should, what: "what bears on security is logged or counted: refused keys, denied callers", without: "counted by the metrics of the doors (docs/operations.md)"},
		{id: "SAFE-14", section: "13.4", level: should, what: "unusual patterns are watched for", without: "on who runs it: by the metrics of the doors"},
		{id: "SAFE-15", section: "13.4", level: should, what: "sensitive operations leave an audit trail", elsewhere: "internal/auditchain: TestVerifyNamesTheFirstEntryThatDoesNotHold"},
		{
			id: "SAFE-16", section: "13.4", level: must, what: "logs have neither credentials nor what callers say",
			test: func(t *testing.T, c caller) {
				said := "personal-" + uuid()
				c.completed(t, "message.parts", []any{object{"text": said}})
				c.refused(t, sendMessage, message(t, "x", "message.parts", []any{object{"text": said, "mediaType": "text/x-unknown"}}), "CONTENT_TYPE_NOT_SUPPORTED")
				if log := c.Output(); strings.Contains(log, said) || strings.Contains(log, c.world.alice) {
					t.Error("the log has it")
				}
			},
		},
		{id: "SAFE-17", section: "13.4", level: should, what: "all operations have rate limits", elsewhere: "agentd/door/front: TestRates"},
		{id: "SAFE-18", section: "13.4", level: should, what: "who is over the limit is told so by an error that says it", elsewhere: "agentd/door/front: TestRates"},
		{id: "SAFE-19", section: "13.4", level: may, what: "limits differ from operation to operation, or from caller to caller", without: "by caller and by address, not by operation (docs/doors.md)"},
	}
}

func privacy() []requirement {
	custom := func(id string, l level, what string) requirement {
		return requirement{id: id, section: "12", level: l, what: what, without: noCustom}
	}
	return []requirement{
		{id: "PRIV-1", section: "13.4", level: must, what: "the law on data protection is kept", without: "on who runs it"},
		{id: "PRIV-2", section: "13.4", level: should, what: "users can have their data deleted", without: "not done by A2A, which has no such operation: tasks end with their time, sessions are deleted by the REST door"},
		{id: "PRIV-3", section: "13.4", level: should, what: "data is kept for a time that fits", without: "tasks for an hour after their end (docs/a2a.md, Tasks), sessions by the spec's memory"},
		{id: "PRIV-4", section: "13.4", level: should, what: "logs have as little personal data as can be", without: "SAFE-16: they have none of what is said"},
		custom("CUSTOM-1", must, "a custom binding has all operations"),
		custom("CUSTOM-2", must, "a custom binding keeps the data model"),
		custom("CUSTOM-3", must, "a custom binding keeps the meaning of operations"),
		custom("CUSTOM-4", must, "a custom binding is documented whole"),
		custom("CUSTOM-5", must, "a custom binding says how each type, time, bytes and enum are written"),
		custom("CUSTOM-6", must, "a custom binding says how service parameters travel"),
		custom("CUSTOM-7", must, "a custom binding maps every error and keeps its details"),
		custom("CUSTOM-8", must, "a custom binding that can't stream says so on the card"),
		custom("CUSTOM-9", must, "a custom binding has the card's authentication, and says how"),
		custom("CUSTOM-10", must, "a custom binding is on the card, by its URI and address"),
		custom("CUSTOM-11", should, "a custom binding is tested against the standard ones"),
		custom("CUSTOM-12", must, "a custom binding's specification speaks of security"),
		custom("CUSTOM-13", may, "there are custom bindings"),
	}
}

func registrations() []requirement {
	return []requirement{
		{
			id: "IANA-1", section: "14.1.1", level: must, what: "JSON is UTF-8: what comes as anything else is refused",
			on: inJSON(), without: noJSON,
			test: func(t *testing.T, c caller) {
				const said = "Grüße, 世界, 🙂"
				task := c.send(t, message(t, "echo", "message.parts", []any{object{"text": said}}))
				if got := c.ask(t, getTask, text(t, object{"id": task.GetId()})); !utf8.Valid(got.body) || !strings.Contains(textOf(c.get(t, task.GetId()).GetHistory()[0].GetParts()), said) {
					t.Errorf("%s", got.body)
				}
				if a := c.raw(t, strings.Replace(message(t, "x"), "hello", "h\xff\xfello", 1)); a.fault == nil {
					t.Errorf("%s", a.body)
				}
			},
		},
		{
			id: "IANA-2", section: "14.1.1", level: must, what: "content is judged by the protocol's schema before it is used",
			test: func(t *testing.T, c caller) {
				if c.binding == gRPC { // where nothing else can be said
					c.refused(t, sendMessage, `{}`, "INVALID_PARAMS")
					return
				}
				for _, body := range []string{`{"message": "hi"}`, `{"message": {"messageId": 5, "role": "ROLE_USER", "parts": [{"text": "x"}]}}`, `{"message": {"messageId": "m", "role": "user", "parts": [{"text": "x"}]}}`, `{"message": {"messageId": "m", "role": "ROLE_USER", "parts": {"text": "x"}}}`} {
					a := c.raw(t, body)
					c.checkFault(t, a, "INVALID_PARAMS")
				}
			},
		},
		{
			id: "IANA-3", section: "14.1.1", level: must, what: "what callers say can inject nothing: not into headers, not into events, not into the JSON of answers",
			test: func(t *testing.T, c caller) {
				said := "\r\n\r\ndata: {\"statusUpdate\":{}}\n\nevent: x\n\"},{\"<script>"
				task := c.completed(t, "message.parts", []any{object{"text": said}}, "message.metadata", object{said: said})
				if m := c.get(t, task.GetId()).GetHistory()[0]; textOf(m.GetParts()) != said || m.GetMetadata().AsMap()[said] != said {
					t.Errorf("it is %v", m)
				}
				events := c.stream(t, streamMessage, message(t, "echo", "message.parts", []any{object{"text": said}})).all(t) // reads each strictly
				for _, e := range events {
					if s := e.GetStatusUpdate(); s != nil && proto.Equal(s, &pb.TaskStatusUpdateEvent{}) {
						t.Errorf("an event was injected: %v", events)
					}
				}
			},
		},
		{
			id: "IANA-4", section: "14.1.1", level: must, what: "addresses of files make the agent fetch nothing inside: it takes http and https alone, and fetches none itself",
			test: func(t *testing.T, c caller) {
				for _, url := range []string{"file:///etc/passwd", "gopher://127.0.0.1/", "//example.com/x", "nowhere"} {
					c.refused(t, sendMessage, message(t, "x", "message.parts", []any{object{"url": url}}), "INVALID_PARAMS")
				}
				h := newHook(t, nil)
				c.completed(t, "message.parts", []any{object{"text": "look"}, object{"url": h.URL + "/secret.png", "mediaType": "image/png"}})
				if n := len(h.all()); n != 0 {
					t.Errorf("the address was fetched %d times", n)
				}
			},
		},
		{
			id: "IANA-5", section: "14.1.1", level: must, what: "authentication and authorization are as section 7 says",
			test: func(t *testing.T, c caller) {
				c.as("").rejected(t, sendMessage, message(t, "x"))
				c.as(c.world.bob).refused(t, getTask, text(t, object{"id": c.completed(t).GetId()}), "TASK_NOT_FOUND")
			},
		},
		{
			id: "IANA-6", section: "14.1.1", level: must, what: "histories and artifacts are for their owner alone",
			test: func(t *testing.T, c caller) {
				context := "ctx-" + uuid()
				c.completed(t, "message.contextId", context)
				if have := c.as(c.world.bob).list(t, "contextId", context, "includeArtifacts", true); len(have.GetTasks()) != 0 {
					t.Errorf("bob has %v", have)
				}
			},
		},
		{
			id: "IANA-7", section: "14.3", level: must, what: "at agent-card.json there is an AgentCard",
			once: func(t *testing.T, w *world) {
				strictly(t, w.plain.page(t, http.MethodGet, w.plain.URL()+cardPath).body, &pb.AgentCard{})
			},
		},
		{
			id: "IANA-8", section: "14.3", level: should, what: "the card has no credentials and nothing of the agent's inside",
			once: func(t *testing.T, w *world) {
				card := string(w.main.page(t, http.MethodGet, w.main.URL()+cardPath).body)
				for _, secret := range []string{w.alice, w.bob, w.model, "credentialRef", "attach", "conformance-model"} {
					if strings.Contains(card, secret) {
						t.Errorf("it has %s", secret)
					}
				}
			},
		},
		{id: "IANA-9", section: "14.3", level: should, what: "the card comes by HTTPS", without: deployed},
		{id: "IANA-10", section: "14.3", level: should, what: "a client verifies a card's signatures", elsewhere: "agentd/door/a2adoor: TestSignaturesOfCards"},
		{
			id: "OLD-1", section: "proto", level: must, what: "nothing has the field kind of 0.3, and the card no supportsExtendedAgentCard",
			on: inJSON(), without: noJSON,
			test: func(t *testing.T, c caller) {
				for _, body := range c.bodies(t) {
					walk(plainJSON(t, body), func(name string, _ any) {
						if name == "kind" || name == "supportsExtendedAgentCard" || name == "supportsAuthenticatedExtendedCard" {
							t.Errorf("%s in %s", name, body)
						}
					})
				}
			},
		},
	}
}
