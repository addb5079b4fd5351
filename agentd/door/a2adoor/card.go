package a2adoor

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/a2a"
)

// cacheCard is how long a card may be kept by those who read it: it changes with the config.
const cacheCard = "public, max-age=60"

// card makes the agent's card as it is now.
func (d *Door) card(face run.Face, base string) *pb.AgentCard {
	name := face.A2A.DisplayName
	if name == "" {
		name = face.Agent
	}
	version := face.A2A.Version
	if version == "" {
		version = "0." + strconv.FormatInt(face.Revision, 10)
	}
	c := &pb.AgentCard{
		Name: name, Description: orText(face.A2A.Description, "The agent "+name+"."), Version: version,
		SupportedInterfaces: []*pb.AgentInterface{
			{Url: base + "/a2a", ProtocolBinding: a2a.BindingJSONRPC, ProtocolVersion: a2a.Version},
			{Url: base + "/a2a/v1", ProtocolBinding: a2a.BindingHTTP, ProtocolVersion: a2a.Version},
			{Url: hostPort(base), ProtocolBinding: a2a.BindingGRPC, ProtocolVersion: a2a.Version},
		},
		Capabilities: &pb.AgentCapabilities{
			Streaming: new(face.A2A.Streaming), PushNotifications: new(face.A2A.Push), ExtendedAgentCard: new(face.Keys),
		},
		DefaultInputModes: inputModes(), DefaultOutputModes: outputModes(),
	}
	if face.A2A.V03 {
		c.SupportedInterfaces = append(c.SupportedInterfaces, places(base).Interfaces()...)
	}
	for _, x := range d.cfg.Extensions {
		c.Capabilities.Extensions = append(c.Capabilities.Extensions, &pb.AgentExtension{Uri: x.URI, Description: x.Description, Required: x.Required})
	}
	if face.Keys {
		c.SecuritySchemes = map[string]*pb.SecurityScheme{
			"bearer": {Scheme: &pb.SecurityScheme_HttpAuthSecurityScheme{HttpAuthSecurityScheme: &pb.HTTPAuthSecurityScheme{Scheme: "Bearer"}}},
			"apiKey": {Scheme: &pb.SecurityScheme_ApiKeySecurityScheme{ApiKeySecurityScheme: &pb.APIKeySecurityScheme{Location: "header", Name: "X-API-Key"}}},
		}
		for _, scheme := range []string{"bearer", "apiKey"} {
			c.SecurityRequirements = append(c.SecurityRequirements, &pb.SecurityRequirement{Schemes: map[string]*pb.StringList{scheme: {}}})
		}
	}
	for _, s := range face.A2A.Skills {
		skill := &pb.AgentSkill{Id: s.ID, Name: orText(s.Name, s.ID), Tags: s.Tags, Examples: s.Examples}
		skill.Description = orText(s.Description, skill.Name)
		if len(skill.Tags) == 0 {
			skill.Tags = []string{s.ID}
		}
		c.Skills = append(c.Skills, skill)
	}
	if len(c.Skills) == 0 {
		c.Skills = []*pb.AgentSkill{{Id: face.Agent, Name: name, Description: c.GetDescription(), Tags: []string{"agent"}}}
	}
	return c
}

func orText(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// hostPort gives what a gRPC client dials.
func hostPort(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return base
	}
	if u.Port() != "" {
		return u.Host
	}
	if u.Scheme == "https" {
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return net.JoinHostPort(u.Hostname(), "80")
}

// extendedCard is GetExtendedAgentCard: the card with the agent's tools, for those who showed a key.
func (d *Door) extendedCard(_ context.Context, c call) (*pb.AgentCard, error) {
	if !c.face.Keys {
		return nil, a2a.Fail(a2a.UnsupportedOperation, "this agent has no extended card (capabilities.extendedAgentCard)")
	}
	if !c.caller.Authenticated {
		return nil, a2a.Fail(a2a.Unauthenticated, "the extended card is for callers who show a key")
	}
	tools, err := d.cfg.Runner.Specs()
	if err != nil {
		return nil, err
	}
	card := d.card(c.face, c.base)
	for _, t := range tools {
		card.Skills = append(card.Skills, &pb.AgentSkill{Id: "tool:" + t.Name, Name: t.Name, Description: orText(t.Description, t.Name), Tags: []string{"tool", t.Server}})
	}
	return card, d.sign(c.face, card, c.base)
}

// sign signs a card, where a key is configured. A key that is none is a fault of the spec that the card's readers are not told.
func (d *Door) sign(face run.Face, card *pb.AgentCard, base string) error {
	signer := d.signer(face, base)
	if signer == nil {
		return nil
	}
	plain, err := a2a.Marshal(card)
	if err != nil {
		return err
	}
	signatures, err := signer.SignForAll(plain, base+a2a.KeysPath)
	if err != nil {
		return err
	}
	for _, s := range signatures {
		card.Signatures = append(card.Signatures, &pb.AgentCardSignature{Protected: s.Protected, Signature: s.Signature})
	}
	return nil
}

// keyCache keeps what is dear to make: the signer of a key, and signed cards, whose bytes would differ each time.
type keyCache struct {
	mu     sync.Mutex // guards what follows
	key    [sha256.Size]byte
	signed *a2a.Signer
	cards  map[cardKey]servedCard
	// strangers are hosts that the card was asked for under and isn't signed for, as far as they were logged.
	strangers map[string]bool
}

type cardKey struct {
	plain [sha256.Size]byte
	key   string
	both  bool // it is one for 0.3, too
}

type servedCard struct {
	body []byte
	etag string
}

// maxCards is how many cards are kept; where another comes, all go.
const maxCards = 32

// signer gives the signer of the configured key; nil: none, or none that can be read.
func (k *keyCache) signer(face run.Face) *a2a.Signer {
	if face.A2A.SigningKey == nil {
		return nil
	}
	text := []byte(face.A2A.SigningKey().Reveal())
	sum := sha256.Sum256(text)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key != sum {
		k.key = sum
		k.signed, _ = a2a.NewSigner(text) // the config's status says what is wrong
	}
	return k.signed
}

// publicCard gives the bytes of the public card and their tag.
func (d *Door) publicCard(face run.Face, base string, both bool) (servedCard, error) {
	card := d.card(face, base)
	plain, err := a2a.Marshal(card)
	if err != nil {
		return servedCard{}, err
	}
	key := cardKey{plain: sha256.Sum256(plain), both: both}
	if s := d.signer(face, base); s != nil {
		key.key = s.KeyID()
	}
	if have, ok := d.keys.served(key); ok {
		return have, nil
	}
	body, err := d.cardBody(face, card, base, both)
	if err != nil {
		return servedCard{}, err
	}
	return d.keys.keep(key, servedCard{body: body, etag: etag(body)}), nil
}

// cardBody gives a card's JSON, signed where a key is configured.
func (d *Door) cardBody(face run.Face, card *pb.AgentCard, base string, both bool) (json.RawMessage, error) {
	if both {
		return d.bothCards(face, card, base)
	}
	if err := d.sign(face, card, base); err != nil {
		return nil, err
	}
	return a2a.Marshal(card)
}

func etag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:18]) + `"`
}

func (k *keyCache) served(key cardKey) (servedCard, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.cards[key]
	return c, ok
}

// keep gives the card that is served: this one, or that of a request that was faster.
func (k *keyCache) keep(key cardKey, c servedCard) servedCard {
	k.mu.Lock()
	defer k.mu.Unlock()
	if have, ok := k.cards[key]; ok {
		return have
	}
	if k.cards == nil || len(k.cards) >= maxCards {
		k.cards = map[cardKey]servedCard{}
	}
	k.cards[key] = c
	return c
}

// serveCard answers at the well-known place. It asks for no version: the card is where versions are learnt from. Who names one that isn't 0.3 is spared the
// members of 0.3.
func (d *Door) serveCard(w http.ResponseWriter, r *http.Request) {
	face, err := d.face()
	if err != nil {
		d.refuseHTTP(w, err)
		return
	}
	if face.A2A.V03 {
		w.Header().Set("Vary", a2a.HeaderVersion)
	}
	served, err := d.publicCard(face, d.base(r), d.legacy(d.service(r)))
	if err != nil {
		d.refuseHTTP(w, err)
		return
	}
	cached(w, r, served, a2a.MediaJSON)
}

// serveKeys answers with the public key of the card's signature.
func (d *Door) serveKeys(w http.ResponseWriter, r *http.Request) {
	face, err := d.face()
	if err != nil {
		d.refuseHTTP(w, err)
		return
	}
	signer := d.keys.signer(face)
	if signer == nil {
		d.refuseHTTP(w, a2a.Fail(a2a.MethodNotFound, "this agent's card is not signed"))
		return
	}
	body := signer.Keys()
	cached(w, r, servedCard{body: body, etag: etag(body)}, "application/jwk-set+json")
}

// cached answers with a body that its reader may have.
func cached(w http.ResponseWriter, r *http.Request, s servedCard, media string) {
	h := w.Header()
	h.Set("Cache-Control", cacheCard)
	h.Set("Etag", s.etag)
	for tag := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == s.etag || tag == "*" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h.Set("Content-Type", media)
	h.Set("Content-Length", strconv.Itoa(len(s.body)))
	_, _ = w.Write(s.body)
}

// base gives the address at which the caller reaches the door.
func (d *Door) base(r *http.Request) string {
	if b := strings.TrimSuffix(d.cfg.Base(), "/"); b != "" {
		return b
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// marshal gives an answer's JSON. Where the protocol wants fields that JSON leaves out at their default, they are put in.
func marshal(m proto.Message) (json.RawMessage, error) {
	switch m := m.(type) {
	case *pb.ListTasksResponse:
		tasks := make([]json.RawMessage, len(m.GetTasks()))
		for i, t := range m.GetTasks() {
			var err error
			if tasks[i], err = a2a.Marshal(t); err != nil {
				return nil, err
			}
		}
		return json.Marshal(map[string]any{"tasks": tasks, "nextPageToken": m.GetNextPageToken(), "pageSize": m.GetPageSize(), "totalSize": m.GetTotalSize()})
	case *pb.ListTaskPushNotificationConfigsResponse:
		configs := make([]json.RawMessage, len(m.GetConfigs()))
		for i, c := range m.GetConfigs() {
			var err error
			if configs[i], err = a2a.Marshal(c); err != nil {
				return nil, err
			}
		}
		return json.Marshal(map[string]any{"configs": configs, "nextPageToken": m.GetNextPageToken()})
	default:
		return a2a.Marshal(m)
	}
}
