package a2aclient

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/errs"
)

// fetched is a card as it came.
type fetched struct {
	body   []byte
	asked  *url.URL // before them
	at     *url.URL // after redirects
	etag   string
	maxAge time.Duration
	same   bool // as the one with this ETag: there is no body
}

// findCard looks for the card of what a person named: the card itself, or an agent's address.
func (w *web) findCard(ctx context.Context, text string) (fetched, error) {
	u, err := address(text)
	if err != nil {
		return fetched{}, errs.New(errs.Invalid, "the agent's address: %w", err)
	}
	var got fetched
	for _, at := range places(u) {
		got, err = w.fetchCard(ctx, at, "")
		if !errs.Is(err, errs.NotFound) {
			return got, err
		}
	}
	return fetched{}, errs.New(errs.NotFound, "no card at %s: an agent has it at %s", bare(u), a2a.CardPath)
}

// places gives where the card may be, likely ones first; at most three.
func places(u *url.URL) []*url.URL {
	if strings.HasSuffix(u.Path, ".json") {
		return []*url.URL{u}
	}
	below, root := *u, *u
	below.Path, below.RawPath = strings.TrimSuffix(u.Path, "/")+a2a.CardPath, ""
	root.Path, root.RawPath, root.RawQuery = a2a.CardPath, "", ""
	out := []*url.URL{&below}
	if below.Path != root.Path {
		out = append(out, &root, u)
	}
	return out
}

// bare gives a URL without what may be a secret in it.
func bare(u *url.URL) string {
	c := *u
	c.RawQuery, c.User, c.Fragment = "", nil, ""
	return c.String()
}

func (w *web) fetchCard(ctx context.Context, u *url.URL, etag string) (fetched, error) {
	b, from, err := w.get(ctx, u, etag)
	if err != nil {
		return fetched{}, err
	}
	got := fetched{body: b, asked: u, at: from.url, etag: from.header.Get("ETag"), maxAge: maxAge(from.header), same: from.same}
	if len(got.etag) > 256 {
		got.etag = ""
	}
	return got, nil
}

// origin is where a document came from.
type origin struct {
	url    *url.URL // after redirects
	header http.Header
	same   bool // as the one with the ETag
}

// get reads a small public document.
func (w *web) get(ctx context.Context, u *url.URL, etag string) ([]byte, origin, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, origin{}, errs.New(errs.Invalid, "%s is no URL", bare(u))
	}
	req.Header.Set("Accept", a2a.MediaJSON)
	req.Header.Set(a2a.HeaderVersion, a2a.Version)
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	resp, err := w.cards.Do(req)
	if err != nil {
		return nil, origin{}, link(false, bare(u), err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusNotModified && etag != "":
		return nil, origin{resp.Request.URL, resp.Header, true}, nil
	case missing(resp.StatusCode):
		return nil, origin{}, errs.New(errs.NotFound, "%s: %s", bare(u), resp.Status)
	case resp.StatusCode != http.StatusOK:
		return nil, origin{}, errs.New(kindOf(ofHTTP(resp.StatusCode)), "%s: %s", bare(u), clip(resp.Status))
	}
	b, err := io.ReadAll(resp.Body)
	if errors.Is(err, egress.ErrTooLarge) {
		return nil, origin{}, errs.New(errs.Invalid, "%s: larger than %d bytes", bare(u), a2a.MaxCard)
	}
	if err != nil {
		return nil, origin{}, link(false, bare(u), err)
	}
	return b, origin{url: resp.Request.URL, header: resp.Header}, nil
}

// maxAge reads Cache-Control.
func maxAge(h http.Header) time.Duration {
	for word := range strings.SplitSeq(h.Get("Cache-Control"), ",") {
		if v, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(word)), "max-age="); ok {
			if n, err := strconv.ParseUint(v, 10, 31); err == nil {
				return time.Duration(n) * time.Second // #nosec G115 -- 31 bits
			}
		}
	}
	return 0
}

// parseCard reads a card. One of 0.3 names its interfaces otherwise, and is told apart from what is no card at all.
func parseCard(b []byte) (*pb.AgentCard, error) {
	card := &pb.AgentCard{}
	fault := a2a.Unmarshal(b, card)
	if fault == nil && len(card.GetSupportedInterfaces()) > 0 {
		return card, nil
	}
	var old struct {
		URL             string `json:"url"`
		ProtocolVersion string `json:"protocolVersion"`
	}
	if json.Unmarshal(b, &old) == nil && old.URL != "" {
		return nil, errs.New(errs.Unsupported, "the agent speaks A2A %s, and this client 1.0", clip(cmp.Or(old.ProtocolVersion, a2a.Legacy)))
	}
	if fault == nil {
		fault = errors.New("it names no interface")
	}
	return nil, errs.New(errs.Invalid, "what is there is no agent card: %s", clip(fault.Error()))
}
