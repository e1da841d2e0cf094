package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/redisopt/redisopt/internal/runtime/limit"
)

// A LimitSubject is who asks, as far as the caller knows. A rule counts by one of these.
type LimitSubject struct {
	User         string   `json:"user,omitempty" maxLength:"1024" doc:"Id of a user who is signed in; undefined and null count as missing"`
	Token        string   `json:"token,omitempty" maxLength:"4096" doc:"Bearer token or API key; stored only as a hash"`
	IP           string   `json:"ip,omitempty" maxLength:"64" doc:"Address of the client; IPv6 counts by its /64"`
	RemoteAddr   string   `json:"remote_addr,omitempty" maxLength:"64" doc:"Instead of ip: the address that connected, with or without a port"`
	ForwardedFor []string `json:"forwarded_for,omitempty" maxItems:"100" nullable:"false" doc:"With remote_addr: the X-Forwarded-For lines, believed as far as the trusted proxies of this server wrote them"`
	Phone        string   `json:"phone,omitempty" maxLength:"64" doc:"Telephone number; stored only as a hash"`
	Key          string   `json:"key,omitempty" maxLength:"1024" doc:"Whatever the caller wants to count by"`
}

// A LimitRequest asks whether something may happen now.
type LimitRequest struct {
	Rule    string       `json:"rule" minLength:"1" maxLength:"64" doc:"Name of the rule"`
	Subject LimitSubject `json:"subject"`
	Feature string       `json:"feature,omitempty" maxLength:"64" doc:"Counts apart from other features under the rule"`
	Tier    string       `json:"tier,omitempty" maxLength:"64" doc:"Picks a limit of the rule's tiers"`
	Cost    int64        `json:"cost,omitempty" minimum:"1" doc:"How much of the quota it takes; 1 when absent"`
}

// A LimitResult is the answer to one LimitRequest.
type LimitResult struct {
	Rule              string    `json:"rule"`
	Tier              string    `json:"tier,omitempty"`
	Subject           string    `json:"subject" doc:"Who was counted, hashed where the rule says so"`
	Allowed           bool      `json:"allowed" doc:"Whether to go on; a denied request has consumed nothing"`
	OverLimit         bool      `json:"over_limit" doc:"The quota was used up; rules that only warn or watch allow it all the same"`
	Warning           bool      `json:"warning" doc:"Over the limit and allowed because the rule only warns"`
	NearLimit         bool      `json:"near_limit" doc:"Nearly used up"`
	Reason            string    `json:"reason" doc:"What the answer rests on: checked, leased, blocked, cost, other, local, error_open, error_closed"`
	Limit             int64     `json:"limit"`
	Used              int64     `json:"used"`
	Remaining         int64     `json:"remaining"`
	PeriodSeconds     float64   `json:"period_seconds"`
	ResetAt           time.Time `json:"reset_at" doc:"When the oldest counted request stops counting, or the period ends"`
	ResetAfterSeconds float64   `json:"reset_after_seconds"`
	RetryAfterSeconds float64   `json:"retry_after_seconds" doc:"When the same request would be admitted if nobody else asked; 0 when it was, or never can be"`
	Commands          int64     `json:"commands" doc:"Billed commands it cost; of a batch, all are in the first result that needed one"`
}

// LimitResults are the answers to a batch.
type LimitResults struct {
	Allowed bool          `json:"allowed" doc:"Every request was allowed"`
	Results []LimitResult `json:"results" nullable:"false" doc:"In the order of the requests"`
}

type limitInput struct {
	Denied string `query:"denied" enum:"200,429" default:"200" doc:"The status of a denial: 200 with the result, or 429 with a problem that has it"`
	Body   LimitRequest
}

type limitManyInput struct {
	Denied string `query:"denied" enum:"200,429" default:"200" doc:"The status of a denial: 200 with the results, or 429 with a problem that has the strictest"`
	Body   struct {
		Requests []LimitRequest `json:"requests" minItems:"1" maxItems:"1000" nullable:"false"`
		All      bool           `json:"all,omitempty" doc:"All or none: when one is denied, none consumes anything"`
	}
}

type subjectInput struct{ Body LimitRequest }

// LimitHeaders are on every answer about a quota: all of them in RateLimit-Policy and RateLimit, the
// strictest in the others, which older clients know. Rules that only watch are in none of them.
type LimitHeaders struct {
	Policy     string `header:"RateLimit-Policy" doc:"The quotas: q the quota, w its window in seconds"`
	State      string `header:"RateLimit" doc:"Where they stand: r what remains, t the seconds until there is more"`
	Limit      string `header:"RateLimit-Limit" doc:"The strictest quota"`
	Remaining  string `header:"RateLimit-Remaining" doc:"What is left of it"`
	Reset      string `header:"RateLimit-Reset" doc:"Seconds until there is more of it"`
	RetryAfter string `header:"Retry-After" doc:"Seconds; only with a denial that time ends"`
}

type limitOutput struct {
	LimitHeaders
	Body LimitResult
}

type limitManyOutput struct {
	LimitHeaders
	Body LimitResults
}

type resetOutput struct {
	Body struct {
		Reset bool `json:"reset" doc:"What the subject has used is forgotten"`
	}
}

type rulesOutput struct {
	Body struct {
		Rules []LimitRule `json:"rules" nullable:"false"`
	}
}

// A LimitRule is a rule in force.
type LimitRule struct {
	Name          string           `json:"name"`
	Algorithm     string           `json:"algorithm"`
	Limit         int64            `json:"limit"`
	PeriodSeconds float64          `json:"period_seconds" doc:"0 for quotas of a calendar day or month"`
	Every         string           `json:"every,omitempty" doc:"day or month, for quotas of the calendar"`
	TimeZone      string           `json:"time_zone,omitempty"`
	Burst         int64            `json:"burst,omitempty"`
	By            string           `json:"by" doc:"What it counts by: user, token, ip, phone or key"`
	Tiers         map[string]int64 `json:"tiers,omitempty"`
	OnError       string           `json:"on_error" doc:"While the upstream does not answer: local, open or closed"`
	Mode          string           `json:"mode" doc:"enforce, warn or shadow"`
	Lease         string           `json:"lease" doc:"Whether tokens are taken in advance: auto, on or off"`
}

type limitStatsOutput struct{ Body limit.Stats }

func (a *API) limitRoutes(h huma.API) {
	post := func(id, path, summary string, scope Scope, description string) huma.Operation {
		return takesJSON(a.operation(id, http.MethodPost, "/v1/limit/"+path, "limit", summary, scope, description))
	}
	const price = "Costs at most 5 billed commands, and none where a lease or a known denial answers."
	huma.Register(h, withErrors(post("limit-check", "check", "Check and count one request", ScopeLimit, price+
		" A denied request consumes nothing. With denied=429 a denial has that status, and 503 where the rule refuses because the upstream is down."),
		http.StatusTooManyRequests, http.StatusServiceUnavailable), a.limitCheck)
	huma.Register(h, withErrors(post("limit-check-many", "check-many", "Check and count several requests at once", ScopeLimit,
		"One script for all of them. The headers are those of the strictest."),
		http.StatusTooManyRequests, http.StatusServiceUnavailable), a.limitCheckMany)
	huma.Register(h, post("limit-peek", "peek", "See what a check would answer", ScopeLimit, "Consumes nothing of the quota. "+price), a.limitPeek)
	huma.Register(h, post("limit-reset", "reset", "Forget what a subject has used", ScopeAdmin, "Here and in the upstream."), a.limitReset)
	huma.Register(h, a.operation("limit-rules", http.MethodGet, "/v1/limit/rules", "limit", "The rules in force", ScopeLimit, "Costs no command."), a.limitRules)
	huma.Register(h, a.operation("limit-stats", http.MethodGet, "/v1/limit/stats", "limit", "What the limiter did since it was started", ScopeLimit,
		"Costs no command."), a.limitStats)
}

// request makes a limiter's request of an API's.
func (a *API) request(r LimitRequest, at string) (limit.Request, error) {
	req := limit.Request{Rule: r.Rule, Feature: r.Feature, Tier: r.Tier, Cost: r.Cost, Subject: limit.Subject{
		User: r.Subject.User, Token: r.Subject.Token, Phone: r.Subject.Phone, Key: r.Subject.Key,
	}}
	var err error
	switch {
	case r.Subject.IP != "" && r.Subject.RemoteAddr != "":
		return req, invalid(at+".subject", "want ip or remote_addr, not both")
	case r.Subject.IP != "":
		if req.Subject.IP, err = netip.ParseAddr(r.Subject.IP); err != nil {
			return req, invalid(at+".subject.ip", "not an IP address")
		}
	case r.Subject.RemoteAddr != "":
		if req.Subject.IP, err = limit.ClientIP(r.Subject.RemoteAddr, r.Subject.ForwardedFor, a.opts.TrustedProxies); err != nil {
			return req, invalid(at+".subject.remote_addr", "not an IP address, with or without a port")
		}
	case len(r.Subject.ForwardedFor) > 0:
		return req, invalid(at+".subject.forwarded_for", "without remote_addr nobody vouches for it")
	}
	return req, nil
}

func (a *API) limitCheck(ctx context.Context, in *limitInput) (*limitOutput, error) {
	if a.opts.Limit == nil {
		return nil, notEnabled("the limiter")
	}
	req, err := a.request(in.Body, "body")
	if err != nil {
		return nil, err
	}
	r, err := a.opts.Limit.Check(ctx, req)
	if err != nil {
		return nil, a.limitProblem(err, "body")
	}
	if !r.Allowed && in.Denied == "429" {
		return nil, denial(r, a.headersOf(r))
	}
	return &limitOutput{a.headersOf(r), resultOf(r)}, nil
}

func (a *API) limitCheckMany(ctx context.Context, in *limitManyInput) (*limitManyOutput, error) {
	if a.opts.Limit == nil {
		return nil, notEnabled("the limiter")
	}
	requests := make([]limit.Request, 0, len(in.Body.Requests))
	for i, r := range in.Body.Requests {
		req, err := a.request(r, "body.requests["+itoa(i)+"]")
		if err != nil {
			return nil, err
		}
		requests = append(requests, req)
	}
	check := a.opts.Limit.CheckMany
	if in.Body.All {
		check = a.opts.Limit.CheckAll
	}
	results, err := check(ctx, requests)
	if err != nil {
		return nil, a.limitProblem(err, "body.requests")
	}
	out := &limitManyOutput{LimitHeaders: a.headersOf(results...), Body: LimitResults{Allowed: true, Results: []LimitResult{}}}
	for _, r := range results {
		out.Body.Allowed = out.Body.Allowed && r.Allowed
		out.Body.Results = append(out.Body.Results, resultOf(r))
	}
	if !out.Body.Allowed && in.Denied == "429" {
		return nil, denial(limit.Strictest(results), out.LimitHeaders)
	}
	return out, nil
}

func (a *API) limitPeek(ctx context.Context, in *subjectInput) (*limitOutput, error) {
	if a.opts.Limit == nil {
		return nil, notEnabled("the limiter")
	}
	req, err := a.request(in.Body, "body")
	if err != nil {
		return nil, err
	}
	r, err := a.opts.Limit.Peek(ctx, req)
	if err != nil {
		return nil, a.limitProblem(err, "body")
	}
	return &limitOutput{a.headersOf(r), resultOf(r)}, nil
}

func (a *API) limitReset(ctx context.Context, in *subjectInput) (*resetOutput, error) {
	if a.opts.Limit == nil {
		return nil, notEnabled("the limiter")
	}
	req, err := a.request(in.Body, "body")
	if err != nil {
		return nil, err
	}
	if err := a.opts.Limit.Reset(ctx, req); err != nil {
		return nil, a.limitProblem(err, "body")
	}
	out := &resetOutput{}
	out.Body.Reset = true
	return out, nil
}

func (a *API) limitRules(context.Context, *struct{}) (*rulesOutput, error) {
	if a.opts.Limit == nil {
		return nil, notEnabled("the limiter")
	}
	out := &rulesOutput{}
	out.Body.Rules = []LimitRule{}
	for _, r := range a.opts.Limit.Rules() {
		out.Body.Rules = append(out.Body.Rules, LimitRule{
			Name: r.Name, Algorithm: string(r.Algorithm), Limit: r.Limit, PeriodSeconds: r.Period.Seconds(), Every: string(r.Every), TimeZone: r.TimeZone,
			Burst: r.Burst, By: string(r.By), Tiers: r.Tiers, OnError: string(r.OnError), Mode: string(r.Mode), Lease: string(r.Lease),
		})
	}
	return out, nil
}

func (a *API) limitStats(context.Context, *struct{}) (*limitStatsOutput, error) {
	if a.opts.Limit == nil {
		return nil, notEnabled("the limiter")
	}
	return &limitStatsOutput{a.opts.Limit.Stats()}, nil
}

func resultOf(r limit.Result) LimitResult {
	return LimitResult{
		Rule: r.Rule, Tier: r.Tier, Subject: r.Subject, Allowed: r.Allowed, OverLimit: r.OverLimit, Warning: r.Warning, NearLimit: r.NearLimit,
		Reason: string(r.Reason), Limit: r.Limit, Used: r.Used, Remaining: r.Remaining, PeriodSeconds: r.Period.Seconds(), ResetAt: r.ResetAt.UTC(),
		ResetAfterSeconds: r.ResetAfter.Seconds(), RetryAfterSeconds: r.RetryAfter.Seconds(), Commands: r.Commands,
	}
}

func (a *API) headersOf(results ...limit.Result) LimitHeaders {
	var out LimitHeaders
	for _, h := range limit.Headers(a.opts.Limit.Shadowed, results...) {
		switch h.Name {
		case "RateLimit-Policy":
			out.Policy = h.Value
		case "RateLimit":
			out.State = h.Value
		case "Retry-After":
			out.RetryAfter = h.Value
		}
	}
	shown := slices.DeleteFunc(slices.Clone(results), func(r limit.Result) bool { return a.opts.Limit.Shadowed(r.Rule) })
	if len(shown) > 0 {
		r := limit.Strictest(shown)
		out.Limit, out.Remaining = itoa(r.Limit), itoa(r.Remaining)
		out.Reset = itoa(max(r.ResetAfterSeconds(), r.RetryAfterSeconds()))
	}
	return out
}

// denial is a denied request as an HTTP error: 429, or 503 where the rule refuses because nobody counts.
func denial(r limit.Result, h LimitHeaders) error {
	result := resultOf(r)
	p := newProblem(http.StatusTooManyRequests, "rate_limited", "Too many requests",
		fmt.Sprintf("rule %s allows %d in %s and %d are used", r.Rule, r.Limit, r.Period, r.Used), "wait as long as Retry-After says")
	switch r.Reason {
	case limit.ReasonClosed:
		p = newProblem(http.StatusServiceUnavailable, "limiter_unavailable", "Limiter not available",
			"the upstream does not answer and rule "+r.Rule+" refuses then", "try again; GET /readyz says why")
		p = p.with("Retry-After", "1")
	case limit.ReasonTooLarge:
		p.problem.Detail, p.problem.Hint = fmt.Sprintf("the cost is above the limit of rule %s, which is %d", r.Rule, r.Limit), "waiting does not help; ask for less"
	case limit.ReasonChecked, limit.ReasonLeased, limit.ReasonBlocked, limit.ReasonOther, limit.ReasonLocal, limit.ReasonOpen:
	}
	p.problem.Limit = &result
	for name, value := range map[string]string{
		"Ratelimit-Policy": h.Policy, "Ratelimit": h.State, "Ratelimit-Limit": h.Limit, "Ratelimit-Remaining": h.Remaining,
		"Ratelimit-Reset": h.Reset, "Retry-After": h.RetryAfter,
	} {
		if value != "" {
			p = p.with(name, value)
		}
	}
	return p
}

func (a *API) limitProblem(err error, location string) error {
	switch {
	case errors.Is(err, limit.ErrUnknownRule):
		var names []string
		for _, r := range a.opts.Limit.Rules() {
			names = append(names, r.Name)
		}
		return newProblem(http.StatusUnprocessableEntity, "unknown_rule", "Unknown rule", clean(err.Error()), "the rules are: "+strings.Join(names, ", "))
	case errors.Is(err, limit.ErrNoIdentity):
		return newProblem(http.StatusUnprocessableEntity, "no_identity", "Nobody to count", clean(err.Error()),
			"fill in what the rule counts by; requests of unknown origin never share a quota")
	case errors.Is(err, limit.ErrBadCost), errors.Is(err, limit.ErrTooMany):
		return invalid(location, "%s", clean(err.Error()))
	}
	return upstreamProblem(err)
}
