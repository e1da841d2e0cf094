package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/redisopt/redisopt/internal/inspect/commands"
	"github.com/redisopt/redisopt/internal/inspect/connections"
	"github.com/redisopt/redisopt/internal/inspect/gate"
	"github.com/redisopt/redisopt/internal/inspect/source"
	"github.com/redisopt/redisopt/internal/runtime/budget"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// liveEvidence asks the configured Redis, or reads what other audits measured. One measurement of
// commands tells who is connected too, so nothing is asked twice. An error leaves the evidence out and
// is told after the verdict, because the rest can be judged.
func (a *app) liveEvidence(ctx context.Context, f budgetFlags, conf *config.Config, ev *gate.Evidence) error {
	if len(f.live) > 0 {
		l, err := readLive(f.live)
		ev.Live = l
		return err
	}
	if f.offline {
		ev.Absent[budget.Live] = "--offline asks no Redis"
		return nil
	}
	if _, ok := conf.TCP(); !ok {
		ev.Absent[budget.Live] = "no Redis is configured: set REDIS_URL"
		return nil
	}
	err := a.withRedis(ctx, redisUse{component: meter.Audit}, func(up *upstream.Upstream, conf *config.Config) error {
		bar := a.progress("seconds")
		bar.begin("measure commands for "+f.window.String(), 0)
		r, err := commands.Audit(ctx, up.Client(), commands.Options{
			Window: f.window, Provider: f.provider.value, Deep: f.deep, Budget: conf.Budgets.Commands.PerMonth,
			Progress: func(time.Duration, time.Duration) { bar.update(0, 0) },
		})
		bar.finish()
		if err != nil {
			return err
		}
		ev.Live = liveOf(r, r.Connections)
		return nil
	})
	if err != nil {
		ev.Absent[budget.Live] = "the Redis could not be measured: " + err.Error()
	}
	return err
}

// liveOf is what was measured in the words of the gate. Either of the two may be nil.
func liveOf(r *commands.Report, c *connections.Report) *gate.Live {
	l := &gate.Live{}
	if c != nil {
		total := gate.Exactly(float64(c.Total))
		l.Connections, l.Limit = &total, c.Limit.Connections
		for _, p := range c.Processes {
			if !p.Own {
				l.Processes = append(l.Processes, gate.Process{Name: p.ID, Connections: gate.Exactly(float64(p.Connections))})
			}
		}
		l.Findings = append(l.Findings, gateFindings(c.Findings, nil)...)
		l.Missing = append(l.Missing, c.Missing...)
	}
	if r == nil {
		return l
	}
	l.Window = time.Duration(r.WindowSeconds * float64(time.Second))
	if p := r.Projection; r.Observable != commands.Nothing && !r.Partial {
		n := p.BilledPerMonth
		if r.Provider == "none" || n == 0 {
			n = p.AllPerMonth
		}
		doubt := n * p.UncertaintyPercent / 100
		l.CommandsPerMonth = &gate.Span{Min: n - doubt, Max: n + doubt}
	}
	for _, b := range r.Bills {
		if b.Provider.Name == r.Provider && b.Provider.AsOf != "" {
			l.Cost = &gate.Cost{Plan: b.Provider.Name, USDPerMonth: gate.Exactly(b.USDPerMonth), AsOf: b.Provider.AsOf}
		}
	}
	told := func(f gate.Finding) bool {
		return slices.ContainsFunc(l.Findings, func(o gate.Finding) bool { return o.Rule == f.Rule && o.Subject == f.Subject })
	}
	for _, f := range gateFindings(r.Findings, nil) {
		if f.Rule != ruleMonthlyBudget && !told(f) { // the budget is judged here, by its own shares
			l.Findings = append(l.Findings, f)
		}
	}
	for _, m := range r.Missing {
		if !slices.Contains(l.Missing, m) {
			l.Missing = append(l.Missing, m)
		}
	}
	return l
}

// ruleMonthlyBudget is the rule of audit commands for what the gate judges itself.
const ruleMonthlyBudget = "monthly-budget-exceeded"

// readLive reads documents of audit connections and audit commands.
func readLive(paths []string) (*gate.Live, error) {
	var c *connections.Report
	var r *commands.Report
	var errs []error
	for _, path := range paths {
		kind, data, err := readDocument(path)
		switch {
		case err != nil:
		case kind == "audit.connections/v1":
			c = &connections.Report{}
			err = json.Unmarshal(data, c)
		case kind == "audit.commands/v1":
			r = &commands.Report{}
			err = json.Unmarshal(data, r)
		default:
			err = fmt.Errorf("is of the kind %q, want audit.connections/v1 or audit.commands/v1", kind)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--live %s: %w", path, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, &usageError{err}
	}
	return liveOf(r, c), nil
}

// maxDocumentBytes bounds a document that is read back.
const maxDocumentBytes = 64 << 20

func readDocument(path string) (kind string, data json.RawMessage, err error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxDocumentBytes {
		return "", nil, fmt.Errorf("is longer than %d bytes", maxDocumentBytes)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", nil, withoutPath(err)
	}
	var doc struct {
		Kind string          `json:"kind"`
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return "", nil, fmt.Errorf("is no document of an audit: %w", err)
	}
	return doc.Kind, doc.Data, nil
}

// knownRules are the rules whose findings a gate may meet: those of code, of connections and of commands.
func knownRules() []string {
	return append(source.Rules(),
		"connections-over-max", "connections-not-shared", "connections-unattributed", "connections-idle",
		"connection-limit-near", "connection-limit-far", "connections-rejected",
		ruleMonthlyBudget, "polling-not-seen", "handshakes", "scripts-dominate", "commands-not-observable")
}
