package step

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/replica"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/ramp"
)

// Phase1Name is the phase that takes cache and limits to another Redis, or another way to it.
const Phase1Name = "phase1"

// The names of phase 1's steps that do not depend on the plan.
const (
	phase1Preflight = "phase1.preflight"
	phase1Values    = "phase1.verify-values"
	phase1Clear     = "phase1.clear-new"
	phase1Shadow    = "phase1.shadow-begin"
	phase1Compare   = "phase1.shadow-compare"
	phase1Soak      = "phase1.soak"
)

// A Writer is how the application writes on the new side.
type Writer string

// The writers.
const (
	SameBytes     Writer = "same"    // the bytes that the old client writes: redisopt serve, deploy/node/ramp.mjs
	UpstashWriter Writer = "upstash" // as @upstash/redis writes by itself: strings as they are, the rest as JSON
)

// A Phase1Plan is what a journal keeps of phase 1. The zero value of each field is its default.
type Phase1Plan struct {
	// Routes are what moves: "cache" and "limit" are those of redisopt serve, any other name is of an
	// application that divides its keys itself. Default cache and limit.
	Routes []string `json:"routes"`

	// Percentages are the shares of keys, each larger than the one before; the last is 100. Default 1,
	// 5, 25, 50, 100.
	Percentages []float64 `json:"percentages"`

	// ShadowPercent is the share of the reads of the old side that are compared. Default 10.
	ShadowPercent float64 `json:"shadow_percent"`

	// StepMS is how long the shadow and each share but the last is held, and SoakMS how long the last
	// is, in milliseconds. Defaults 10 minutes and 24 hours; negative: only until the gates pass.
	StepMS int64 `json:"step_ms"`
	SoakMS int64 `json:"soak_ms"`

	// SameDatabase is whether both sides are ways to one database.
	SameDatabase bool `json:"same_database"`

	// Old and New are where the sides are, without credentials.
	Old string `json:"old"`
	New string `json:"new"`

	// Replicas are the addresses of the APIs of redisopt serve.
	Replicas []string `json:"replicas"`

	// ControlKey is the key of the control document. Default control.DefaultKey.
	ControlKey string `json:"control_key"`

	// KeyPrefixes are the keys that the routes are about, as far as that matters to the prover and to
	// whether the new side is empty.
	KeyPrefixes []string `json:"key_prefixes"`

	// Prove is how many commands the prover may spend on looking at values; 0: it does not look.
	Prove int64 `json:"prove_commands"`

	// Writer is how the application writes on the new side. Default SameBytes.
	Writer Writer `json:"writer"`

	// ClearNew removes what the new side has under KeyPrefixes before anything is written there.
	ClearNew bool `json:"clear_new"`

	// Gates are what must hold.
	Gates Phase1Gates `json:"gates"`
}

// Phase1Gates are the numbers of the design as defaults. Each is a limit over the whole wait.
type Phase1Gates struct {
	// Errors is how many calls of the new side may have no answer. Default 0.
	Errors float64 `json:"errors"`

	// Differences is how many compared reads may differ. Default 0.
	Differences float64 `json:"differences"`

	// P95 is by how many percent the p95 of what callers wait may exceed that of the old side during the
	// shadow; a difference below 1 ms is none. Default 10; negative: not judged.
	P95 float64 `json:"p95_percent"`

	// HitRate is the least share of reads of caches that find something, in percent. Default 80;
	// negative: not judged.
	HitRate float64 `json:"hit_rate_percent"`

	// CommandsPerDay is the most commands of the old side's database a day, and Connections the most that may be
	// open there. 0: not judged.
	CommandsPerDay float64 `json:"commands_per_day"`
	Connections    float64 `json:"connections,omitempty"`

	// CommandsDefault and ConnectionsDefault are true where nobody asked for that limit. Moving to another
	// transport changes no command counts, so a default is a remark where it was not kept before either.
	CommandsDefault    bool `json:"commands_default,omitempty"`
	ConnectionsDefault bool `json:"connections_default,omitempty"`

	// MinSamples is how many observations each of them needs. Default 100.
	MinSamples int64 `json:"min_samples"`
}

func (p Phase1Plan) withDefaults() Phase1Plan {
	if len(p.Routes) == 0 {
		p.Routes = []string{ramp.Cache, ramp.Limit}
	}
	if len(p.Percentages) == 0 {
		p.Percentages = []float64{1, 5, 25, 50, 100}
	}
	if p.ShadowPercent == 0 {
		p.ShadowPercent = 10
	}
	if p.StepMS == 0 {
		p.StepMS = (10 * time.Minute).Milliseconds()
	}
	if p.SoakMS == 0 {
		p.SoakMS = (24 * time.Hour).Milliseconds()
	}
	if p.ControlKey == "" {
		p.ControlKey = control.DefaultKey
	}
	if p.Writer == "" {
		p.Writer = SameBytes
	}
	if p.Gates.P95 == 0 {
		p.Gates.P95 = 10
	}
	if p.Gates.HitRate == 0 {
		p.Gates.HitRate = 80
	}
	if p.Gates.MinSamples == 0 {
		p.Gates.MinSamples = 100
	}
	return p
}

func (p Phase1Plan) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	seen := map[string]bool{}
	for _, route := range p.Routes {
		switch {
		case route == "" || len(route) > 100 || strings.HasSuffix(route, ramp.Mirror("")) || strings.HasSuffix(route, ramp.Shadow("")):
			bad("route: got %q, want a name of 1 to 100 bytes that does not end in .mirror or .shadow", route)
		case seen[route]:
			bad("route %s: given twice", route)
		}
		seen[route] = true
	}
	last := 0.0
	for _, percent := range p.Percentages {
		if percent <= last || percent > 100 {
			bad("ramp: got %s, want rising percentages up to 100", percentages(p.Percentages))
			break
		}
		last = percent
	}
	if last != 100 && len(errs) == 0 {
		bad("ramp: got %s, want 100 as the last", percentages(p.Percentages))
	}
	if p.ShadowPercent < 0 || p.ShadowPercent > 100 {
		bad("shadow: got %g%%, want 0 to 100", p.ShadowPercent)
	}
	if p.Writer != SameBytes && p.Writer != UpstashWriter {
		bad("writer: got %q, want same or upstash", p.Writer)
	}
	if p.Prove < 0 {
		bad("prove: got %d commands, want 0 or more", p.Prove)
	}
	if p.ClearNew && (p.SameDatabase || len(p.KeyPrefixes) == 0) {
		bad("clear new: only for another database, and only with the prefixes of the keys")
	}
	if slices.Contains(p.KeyPrefixes, "") {
		bad("key prefix: got none, want the beginning of the keys")
	}
	if g := p.Gates; g.Errors < 0 || g.Differences < 0 || g.CommandsPerDay < 0 || g.Connections < 0 || g.MinSamples < 1 || g.HitRate > 100 {
		bad("gates: want numbers of 0 or more, a hit rate of at most 100%%, and at least 1 sample")
	}
	return errors.Join(errs...)
}

// percentages are as they are typed: 1,5,25.
func percentages(list []float64) string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = strconv.FormatFloat(p, 'g', -1, 64)
	}
	return strings.Join(texts, ",")
}

// ParsePercentages reads 1,5,25,50,100.
func ParsePercentages(text string) ([]float64, error) {
	var out []float64
	for part := range strings.SplitSeq(text, ",") {
		p, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(part), "%"), 64)
		if err != nil || !(p > 0 && p <= 100) {
			return nil, fmt.Errorf("got %q, want percentages such as 1,5,25,50,100", part)
		}
		out = append(out, p)
	}
	return out, nil
}

// own is whether a route is one of redisopt serve itself.
func own(route string) bool { return route == ramp.Cache || route == ramp.Limit }

// A Phase1 takes keys to the new side, share by share, and back. It is for one goroutine.
type Phase1 struct {
	// Fleet is the replicas of redisopt serve that are asked what they see. Its URLs are those of the
	// plan; without any nothing is measured, and gates are inconclusive.
	Fleet replica.Fleet

	// New reaches the new side. Nil: it cannot be looked at from here, and preflight refuses to begin
	// where keys of serve's own routes would move.
	New redis.UniversalClient

	// Facts are what audits know, for the Outline. Nil: it says that this was not measured.
	Facts *Phase1Facts

	// Follow is how long replicas have to follow a change before it counts as failed. Default 10 seconds.
	Follow time.Duration

	// Every is how often gates are asked, which costs no command. Default a tenth of the wait, between
	// 100 ms and 1 minute; every second where the wait has no length.
	Every time.Duration

	plan    Phase1Plan
	env     migrate.Env
	client  redis.UniversalClient
	control *control.Control
}

// NewPhase1 returns the phase. It touches nothing yet. The client reaches the Redis that holds the control
// document.
func NewPhase1(client redis.UniversalClient, plan Phase1Plan, env migrate.Env) (*Phase1, error) {
	plan = plan.withDefaults()
	if err := plan.validate(); err != nil {
		return nil, err
	}
	c, err := control.Open(control.Options{Client: client, Key: plan.ControlKey})
	if err != nil {
		return nil, err
	}
	return &Phase1{
		plan: plan, env: env, client: client, control: c, Follow: 10 * time.Second, Fleet: replica.Fleet{URLs: plan.Replicas},
	}, nil
}

// openPhase1 makes the phase again from a journal.
func openPhase1(client redis.UniversalClient, options json.RawMessage, env migrate.Env) (migrate.Phase, error) {
	var plan Phase1Plan
	if err := json.Unmarshal(options, &plan); err != nil {
		return nil, fmt.Errorf("plan in the journal: %w", err)
	}
	return NewPhase1(client, plan, env)
}

// Target is the whole database.
func (p *Phase1) Target() migrate.Target { return migrate.Target{Phase: Phase1Name} }

// Options is the plan.
func (p *Phase1) Options() any { return p.plan }

// Kept is the plan with its defaults.
func (p *Phase1) Kept() Phase1Plan { return p.plan }

// Lasting is true: a second pass would compare reads of which there are none any more, and wait for them.
func (p *Phase1) Lasting() bool { return true }

// Steps look, prove, compare, ramp and soak.
func (p *Phase1) Steps() []migrate.Step {
	all := []migrate.Step{&phase1Check{p}}
	if p.plan.Prove > 0 {
		all = append(all, &phase1Proof{p})
	}
	if p.plan.ClearNew {
		all = append(all, &phase1Clearing{p})
	}
	all = append(all, &phase1Shadowing{p}, p.soak(phase1Compare, p.plan.StepMS, p.shadowGates()))
	for i, percent := range p.plan.Percentages {
		all = append(all, &phase1Share{p, percent})
		if i < len(p.plan.Percentages)-1 {
			all = append(all, p.soak("phase1.hold-"+shareName(percent), p.plan.StepMS, p.gates(p.plan.StepMS, false)))
		}
	}
	return append(all, p.soak(phase1Soak, p.plan.SoakMS, p.gates(p.plan.SoakMS, true)))
}

// shareName is a percentage as part of a step's name, which must not have a dot.
func shareName(percent float64) string {
	return strings.ReplaceAll(percentages([]float64{percent}), ".", "_")
}

func (p *Phase1) soak(name string, ms int64, gates []migrate.Gate) migrate.Step {
	env := p.env
	env.Watch = &phase1Watch{phase: p, inner: p.env.Watch}
	wait, every := time.Duration(ms)*time.Millisecond, p.Every
	switch {
	case every != 0:
	case wait < 0:
		every = time.Second
	default:
		every = min(max(wait/10, 100*time.Millisecond), time.Minute)
	}
	soak, err := migrate.NewSoak(migrate.SoakOptions{Name: name, For: wait, Gates: gates, Env: env, Every: every})
	if err != nil {
		return &brokenStep{name, err} // Every was set wrong
	}
	return soak
}

// The KPIs that only phase 1 has.
const (
	kpiP95Increase = "latency_p95_increase_percent"
	kpiNewErrors   = "new_side_errors"
	kpiDecisions   = "limit_mismatches"
)

// shadowGates are what must hold before any key moves.
func (p *Phase1) shadowGates() []migrate.Gate {
	g := p.plan.Gates
	var out []migrate.Gate
	if p.compares() {
		out = append(out,
			migrate.Gate{KPI: kpiNewErrors, Unit: "calls", Limit: g.Errors, MinSamples: g.MinSamples},
			migrate.Gate{KPI: migrate.KPIMismatches, Unit: "reads", Limit: g.Differences, MinSamples: g.MinSamples})
	}
	return append(out, p.decisionGates()...)
}

// decisionGates judge what both sides decide about limits, where anything of it was compared: a rule whose
// checks are answered from memory has nothing to compare.
func (p *Phase1) decisionGates() []migrate.Gate {
	if p.plan.ShadowPercent <= 0 || !slices.Contains(p.plan.Routes, ramp.Limit) {
		return nil
	}
	return []migrate.Gate{{KPI: kpiDecisions, Unit: "decisions", Limit: p.plan.Gates.Differences, MinCoverage: -1, Optional: true}}
}

// compares is whether any route has reads that can be compared.
func (p *Phase1) compares() bool {
	return p.plan.ShadowPercent > 0 && slices.ContainsFunc(p.plan.Routes, func(r string) bool { return r != ramp.Limit })
}

// gates are what must hold for some milliseconds while keys are on the new side. A default for commands a day is for
// the last wait alone: no other is long enough to tell.
func (p *Phase1) gates(ms int64, last bool) []migrate.Gate {
	g := p.plan.Gates
	out := []migrate.Gate{{KPI: kpiNewErrors, Unit: "calls", Limit: g.Errors, MinSamples: 1}}
	if g.P95 > 0 {
		out = append(out, migrate.Gate{KPI: kpiP95Increase, Unit: "%", Limit: g.P95, MinSamples: g.MinSamples})
	}
	if p.compares() {
		// At 100% no read is compared any more.
		out = append(out, migrate.Gate{KPI: migrate.KPIMismatches, Unit: "reads", Limit: g.Differences, MinCoverage: -1, Optional: true})
		if g.HitRate > 0 {
			out = append(out, migrate.Gate{KPI: migrate.KPIHitRate, Unit: "%", AtLeast: true, Limit: g.HitRate, MinSamples: g.MinSamples})
		}
	}
	out = append(out, p.decisionGates()...)
	length := time.Duration(ms) * time.Millisecond
	if g.CommandsPerDay > 0 && (last || !g.CommandsDefault) {
		out = append(out, commandsGate(g.CommandsPerDay, g.CommandsDefault, length))
	}
	if g.Connections > 0 {
		out = append(out, connectionsGate(g.Connections, g.ConnectionsDefault, length))
	}
	return out
}
