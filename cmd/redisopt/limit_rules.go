package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/limit/window"
	"github.com/redisopt/redisopt/internal/runtime/sidecar"
)

// limitRulesData is the contract of limit.rules/v1.
type limitRulesData struct {
	Instances int         `json:"instances"`
	Rules     []limitRule `json:"rules"`
}

// limitRule is one rule, or one tier of it, with what it admits at worst and costs.
type limitRule struct {
	Rule      string          `json:"rule"`
	Tier      string          `json:"tier"`
	Algorithm limit.Algorithm `json:"algorithm"`
	Limit     int64           `json:"limit"`
	PeriodS   float64         `json:"period_s"`
	Every     string          `json:"every"`
	By        limit.Identity  `json:"by"`
	OnError   limit.OnError   `json:"on_error"`
	Mode      limit.Mode      `json:"mode"`
	Leases    bool            `json:"leases"`
	Legacy    string          `json:"legacy"`
	Bound     window.Bound    `json:"bound"`
	Commands  limit.Price     `json:"commands_per_check"`

	period string
}

func (a *app) limitRulesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rules",
		Short: "The rules with their algorithm, what they admit at worst, and what a check costs",
		Long: `Shows the rules in force. "At worst" is the most that is ever admitted in one window, and in brackets how
far that is over the limit; the notes say why, and how much too little may be admitted. "Commands" is what a
check is billed, those inside the script included; with leases the first number is for a busy key. A check
that memory can answer costs nothing. Needs no Redis.`,
		Example: `  redisopt limit rules
  redisopt limit rules -o json`,
		Args: cobra.NoArgs,
		RunE: a.action(func(context.Context, []string) error { return a.limitRules() }),
	}
}

func (a *app) limitRules() error {
	conf, err := a.load(config.Need{Limits: true})
	if err != nil {
		return err
	}
	opts := sidecar.LimitOptions(conf)
	l, err := limit.New(opts)
	if err != nil {
		return &usageError{err}
	}
	data, err := rulesOf(l, max(1, opts.Instances))
	if err != nil {
		return err
	}
	return a.print(limitRulesDocument(data))
}

// rulesOf describes the rules of a limiter.
func rulesOf(l *limit.Limiter, instances int) (limitRulesData, error) {
	data := limitRulesData{Instances: instances, Rules: []limitRule{}}
	for _, r := range l.Rules() {
		for _, tier := range append([]string{""}, slices.Sorted(maps.Keys(r.Tiers))...) {
			bound, err := l.Bound(r.Name, tier)
			if err != nil {
				return data, err
			}
			price, err := l.Price(r.Name, tier)
			if err != nil {
				return data, err
			}
			data.Rules = append(data.Rules, limitRule{
				Rule: r.Name, Tier: tier, Algorithm: r.Algorithm, Limit: bound.Limit, PeriodS: r.Period.Seconds(),
				Every: string(r.Every), By: r.By, OnError: r.OnError, Mode: r.Mode, Leases: bound.Held > 0, Legacy: r.Legacy,
				Bound: bound, Commands: price, period: periodWords(r),
			})
		}
	}
	return data, nil
}

func periodWords(r limit.Rule) string {
	if r.Algorithm == limit.Calendar {
		return string(r.Every)
	}
	return roughly(r.Period)
}

// limitRulesDocument is limit.rules/v1.
func limitRulesDocument(d limitRulesData) report.Document {
	doc := report.Document{Kind: "limit.rules/v1", Data: d, Title: "limits"}
	table := &report.Table{Columns: []report.Column{
		{Name: "rule"},
		{Name: "limit"},
		{Name: "by"},
		{Name: "algorithm"},
		{Name: "at worst", Right: true},
		{Name: "commands", Right: true},
		{Name: "on error"},
		{Name: "mode"},
	}}
	for _, r := range d.Rules {
		name := r.Rule
		if r.Tier != "" {
			name += " " + r.Tier
		}
		commands := fmt.Sprint(r.Commands.Admitted)
		if r.Leases {
			commands = fmt.Sprintf("%.2f-%d", r.Commands.Leased, r.Commands.Admitted)
		}
		table.Rows = append(table.Rows, []string{
			name, fmt.Sprintf("%d/%s", r.Limit, r.period), string(r.By), string(r.Algorithm),
			boundWords(r.Bound), commands, string(r.OnError), string(r.Mode),
		})
		doc.Notes = append(doc.Notes, fmt.Sprintf("%s: %s", name, r.Bound))
		if r.Legacy != "" {
			doc.Notes = append(doc.Notes, fmt.Sprintf("%s also counts what is in %s", name, r.Legacy))
		}
	}
	doc.Sections = []report.Section{{Table: table}}
	return doc
}

// wholeSeconds is a duration for people who compare: 60s and not 1m0s.
func wholeSeconds(d time.Duration) string {
	if d%time.Second == 0 && d < 10*time.Minute {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return roughly(d)
}
