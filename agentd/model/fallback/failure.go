package fallback

import (
	"net/http"
	"strings"
	"time"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/phase"
)

// endpointsFault tells whether another endpoint may do better: it is down, slow, full, refuses its key, has no such model or doesn't speak
// the protocol. A request that is too long or refused for what it says is refused elsewhere too, and is not sent around.
func endpointsFault(e *model.Error) bool {
	code := phase.Code(e.Code)
	if code.Retryable() || code == phase.Unauthorized {
		return true
	}
	if code != phase.Invalid || len(e.Attempts) == 0 {
		return false
	}
	status := e.Attempts[len(e.Attempts)-1].Status
	return status == http.StatusNotFound || status < http.StatusBadRequest
}

// failures is what the endpoints of one call answered.
type failures struct {
	names []string
	errs  []*model.Error
	spent *model.Usage // by what broke off before
}

func (f *failures) add(name string, e *model.Error) {
	f.names, f.errs = append(f.names, name), append(f.errs, e)
}

// error joins them: the code is the last one's, the attempts are all.
func (f *failures) error() error {
	last := f.errs[len(f.errs)-1]
	if len(f.errs) == 1 {
		return last
	}
	out := &model.Error{Code: last.Code}
	var text []string
	for i, e := range f.errs {
		text = append(text, f.names[i]+": "+e.Message)
		out.Attempts = append(out.Attempts, e.Attempts...)
		if e.RetryAfter > 0 && (out.RetryAfter == 0 || e.RetryAfter < out.RetryAfter) {
			out.RetryAfter = e.RetryAfter
		}
	}
	out.RetryAfter = max(0, min(out.RetryAfter, time.Hour))
	out.Message = strings.Join(text, "; ")
	return out
}
