package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// A Scope is one thing that the holder of a token may do.
type Scope string

// The scopes. ScopeAdmin includes all the others; no other scope includes another.
const (
	ScopeCacheRead   Scope = "cache:read"   // read values and statistics of the cache
	ScopeCacheWrite  Scope = "cache:write"  // set, delete and invalidate
	ScopeLimit       Scope = "limit"        // check and peek limits
	ScopeQueue       Scope = "queue"        // everything under /v1/queues
	ScopeControlRead Scope = "control:read" // read the control document
	ScopeMetrics     Scope = "metrics"      // read /metrics
	ScopeAdmin       Scope = "admin"        // everything, and alone: reset a limit, override the control document
)

// Scopes are all scopes, in the order in which they are listed to people.
func Scopes() []Scope {
	return []Scope{ScopeCacheRead, ScopeCacheWrite, ScopeLimit, ScopeQueue, ScopeControlRead, ScopeMetrics, ScopeAdmin}
}

// ReadOnlyScopes are the scopes that change nothing.
func ReadOnlyScopes() []Scope { return []Scope{ScopeCacheRead, ScopeControlRead, ScopeMetrics} }

// A Token is a secret that a caller shows as "Authorization: Bearer SECRET", and what it allows.
type Token struct {
	// Name is what is said instead of the secret, in the control document for example. It is needed,
	// and no two tokens have the same.
	Name string

	// Secret is what the caller shows. It is needed: printable ASCII without spaces, at most 4096
	// bytes. No two tokens have the same.
	Secret string

	// Scopes are what the token allows; at least one.
	Scopes []Scope

	// MaxPerSecond is how many requests a second the token may make on this replica, on average.
	// Default 0: no limit.
	MaxPerSecond float64

	// Burst is how many requests may come at once before MaxPerSecond counts. Default MaxPerSecond
	// rounded up.
	Burst int
}

func (t Token) validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("token %q: "+format, append([]any{t.Name}, args...)...))
	}
	if t.Name == "" {
		bad("no name; give each token one, so that it can be spoken of without its secret")
	}
	switch {
	case t.Secret == "":
		bad("no secret")
	case len(t.Secret) > maxSecretBytes || strings.ContainsFunc(t.Secret, func(r rune) bool { return r <= ' ' || r > '~' }):
		bad("the secret must be printable ASCII without spaces, at most %d bytes, or no caller can send it", maxSecretBytes)
	}
	if len(t.Scopes) == 0 {
		bad("no scopes; want some of %s", scopeList(Scopes()))
	}
	for _, s := range t.Scopes {
		if !slices.Contains(Scopes(), s) {
			bad("unknown scope %q; want some of %s", s, scopeList(Scopes()))
		}
	}
	if t.MaxPerSecond < 0 || math.IsNaN(t.MaxPerSecond) || math.IsInf(t.MaxPerSecond, 0) {
		bad("max per second: got %v, want 0 or more", t.MaxPerSecond)
	}
	if t.Burst < 0 {
		bad("burst: got %d, want 0 or more", t.Burst)
	}
	return errors.Join(errs...)
}

const maxSecretBytes = 4096

func scopeList(scopes []Scope) string {
	names := make([]string, 0, len(scopes))
	for _, s := range scopes {
		names = append(names, string(s))
	}
	return strings.Join(names, ", ")
}

// A caller is who makes a request.
type caller struct {
	name    string // of the token; "anonymous" where no token is asked for
	scopes  []Scope
	limiter *rate.Limiter // nil: no limit
	hash    [sha256.Size]byte
}

func (c *caller) may(s Scope) bool {
	return c != nil && (slices.Contains(c.scopes, s) || slices.Contains(c.scopes, ScopeAdmin))
}

// guarded is whether a token is asked for. It never changes.
func (a *API) guarded() bool { return len(a.opts.Tokens) > 0 }

// SetTokens replaces the tokens: requests that begin from now on need one of the new ones. On an error,
// which names all problems, the old ones stay. An API that was made with tokens cannot go on without any,
// nor the other way round, because where it listens depends on that.
func (a *API) SetTokens(tokens []Token) error {
	switch {
	case len(tokens) == 0 && a.guarded():
		return errors.New("api: no tokens are left; an API that was guarded stays so until it is made anew")
	case len(tokens) > 0 && !a.guarded():
		return errors.New("api: an API without tokens gets none while it runs; make it anew")
	}
	if err := validateTokens(tokens); err != nil {
		return fmt.Errorf("api: %w", err)
	}
	a.callers.Store(newCallers(tokens, *a.callers.Load()))
	return nil
}

// newCallers are those of tokens. What a token has left of its rate is taken over from before.
func newCallers(tokens []Token, before []*caller) *[]*caller {
	callers := make([]*caller, 0, len(tokens))
	for _, t := range tokens {
		c := newCaller(t)
		for _, old := range before {
			if old.name == c.name && old.limiter != nil && c.limiter != nil &&
				old.limiter.Limit() == c.limiter.Limit() && old.limiter.Burst() == c.limiter.Burst() {
				c.limiter = old.limiter
			}
		}
		callers = append(callers, c)
	}
	return &callers
}

func validateTokens(tokens []Token) error {
	var errs []error
	names, secrets := map[string]bool{}, map[string]bool{}
	for _, t := range tokens {
		if err := t.validate(); err != nil {
			errs = append(errs, err)
		}
		if names[t.Name] {
			errs = append(errs, fmt.Errorf("token %q: there are two of this name", t.Name))
		}
		if secrets[t.Secret] {
			errs = append(errs, fmt.Errorf("token %q: another token has the same secret", t.Name))
		}
		names[t.Name], secrets[t.Secret] = true, true
	}
	return errors.Join(errs...)
}

func newCaller(t Token) *caller {
	c := &caller{name: t.Name, scopes: slices.Clone(t.Scopes), hash: sha256.Sum256([]byte(t.Secret))}
	if t.MaxPerSecond > 0 {
		burst := t.Burst
		if burst == 0 {
			burst = int(math.Ceil(t.MaxPerSecond))
		}
		c.limiter = rate.NewLimiter(rate.Limit(t.MaxPerSecond), burst)
	}
	return c
}

// authenticate finds whose token r shows. It compares with every token whatever the outcome, and hashes
// instead of secrets, so that the time it takes says nothing about any of them. The caller is nil when
// a token is asked for and none was shown.
func (a *API) authenticate(r *http.Request) (*caller, *problemError) {
	if !a.guarded() {
		return a.anonymous, nil
	}
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return nil, nil
	}
	scheme, secret, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || len(secret) > maxSecretBytes {
		return nil, unauthorized("invalid_request", "the Authorization header is not \"Bearer\" and a token, once")
	}
	shown := sha256.Sum256([]byte(strings.TrimSpace(secret)))
	var found *caller
	for _, c := range *a.callers.Load() {
		if subtle.ConstantTimeCompare(shown[:], c.hash[:]) == 1 {
			found = c
		}
	}
	if found == nil {
		return nil, unauthorized("invalid_token", "no token with this secret is configured")
	}
	return found, nil
}

// authorize lets a request through to an operation that needs scope, or says why not.
func (a *API) authorize(r *http.Request, scope Scope) (*caller, *problemError) {
	c, refused := a.authenticate(r)
	switch {
	case refused != nil:
		return nil, refused
	case c == nil:
		return nil, unauthorized("", "this needs a token and the request shows none")
	case !c.may(scope):
		return nil, newProblem(http.StatusForbidden, "insufficient_scope", "Not allowed",
			fmt.Sprintf("token %q does not have scope %s", c.name, scope),
			fmt.Sprintf("add %s to the token's scopes in the configuration, or use a token that has it", scope)).
			with("WWW-Authenticate", `Bearer realm="redisopt", error="insufficient_scope", scope="`+string(scope)+`"`)
	case c.limiter == nil:
		return c, nil
	}
	reservation := c.limiter.Reserve()
	if wait := reservation.Delay(); wait > 0 {
		reservation.Cancel()
		seconds := int(math.Ceil(wait.Seconds()))
		return nil, newProblem(http.StatusTooManyRequests, "token_rate_limited", "Too many requests",
			fmt.Sprintf("token %q may make %g requests a second on this replica", c.name, float64(c.limiter.Limit())),
			fmt.Sprintf("wait %d s, or raise max_per_second of the token", seconds)).
			with("Retry-After", strconv.Itoa(seconds))
	}
	return c, nil
}

func unauthorized(code, detail string) *problemError {
	challenge := `Bearer realm="redisopt"`
	if code != "" {
		challenge += `, error="` + code + `"`
	}
	return newProblem(http.StatusUnauthorized, "unauthorized", "Not authenticated", detail,
		`send the header "Authorization: Bearer TOKEN" with a token of this server's configuration`).
		with("WWW-Authenticate", challenge)
}

// A requestInfo is what is known about a request besides what the client sent.
type requestInfo struct {
	id     string
	route  string // the pattern that matched; "" before and when none did
	caller *caller
	body   []byte // read and checked before the operation runs
	isJSON bool   // what its content type says of the body
	start  time.Time
}

type requestKey struct{}

// infoOf never returns nil.
func infoOf(ctx context.Context) *requestInfo {
	if info, ok := ctx.Value(requestKey{}).(*requestInfo); ok {
		return info
	}
	return &requestInfo{}
}
