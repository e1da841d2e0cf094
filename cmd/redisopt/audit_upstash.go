package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect/commands"
	"github.com/redisopt/redisopt/internal/inspect/upstash"
	"github.com/redisopt/redisopt/internal/runtime/config"
)

// upstashUsage is what Upstash says that the configured database uses. Nil without an error where no
// credentials are configured.
func (a *app) upstashUsage(ctx context.Context, conf *config.Config, database string) (*upstash.Usage, error) {
	u := conf.Upstash
	if u.Email == "" && u.APIKey == "" {
		return nil, nil //nolint:nilnil // nobody is to be asked, which is no error
	}
	if u.Email == "" || u.APIKey == "" {
		return nil, withHint(usagef("UPSTASH_EMAIL and UPSTASH_API_KEY belong together, and one is missing"), "set both, or neither; each also as NAME_FILE")
	}
	client, err := upstash.New(upstash.Options{Email: u.Email, APIKey: u.APIKey.Reveal(), URL: u.APIURL.Reveal(), Timeout: 3 * conf.Upstream.Timeout})
	if err != nil {
		return nil, &usageError{err}
	}
	defer client.Close()
	if database == "" {
		database = u.Database
	}
	usage, err := client.Read(ctx, database, upstashAddress(conf), a.now())
	return usage, withUpstashHint(err)
}

// upstashAddress is the address of the configured Redis; empty where there is none, or several.
func upstashAddress(conf *config.Config) string {
	if tcp, ok := conf.TCP(); ok {
		if hosts := tcp.Hosts(); len(hosts) == 1 {
			return hosts[0]
		}
	}
	return ""
}

// upstashCause is the exit code of a class of failure of the Developer API.
func upstashCause(class upstash.Class) (code int, known bool) {
	switch class {
	case upstash.Denied:
		return exitDenied, true
	case upstash.NotFound:
		return exitUsage, true
	case upstash.Throttled:
		return exitTryLater, true
	case upstash.Unreachable:
		return exitUnreachable, true
	case upstash.Malformed, upstash.Rejected:
	}
	return 0, false
}

// withUpstashHint is err with what to do about it.
func withUpstashHint(err error) error {
	var next string
	walk(err, func(e error) {
		switch e := e.(type) { //nolint:errorlint // walk unwraps
		case *upstash.ChoiceError:
			next = "name the database: UPSTASH_DATABASE, upstash.database or --database"
		case *upstash.Error:
			next = map[upstash.Class]string{
				upstash.Denied:      "check UPSTASH_EMAIL and UPSTASH_API_KEY against the console; accounts made through Vercel or Fly have no Developer API",
				upstash.NotFound:    "check UPSTASH_DATABASE: the id or name of a database of this account",
				upstash.Throttled:   "wait a minute and run the command again, or give the load with --commands-per-month",
				upstash.Unreachable: "check the network, wait longer with --timeout 30s, or give the load with --commands-per-month and --offline",
				upstash.Malformed:   "check UPSTASH_API_URL; without one, " + upstash.DefaultURL + " is asked",
			}[e.Class]
		}
	})
	if err == nil || next == "" {
		return err
	}
	return withHint(err, next)
}

// commandsData is what audit commands prints: its report and, where the Developer API is configured, what
// Upstash counts.
type commandsData struct {
	*commands.Report
	Upstash *upstash.Usage `json:"upstash,omitempty"`
	Drift   *upstash.Drift `json:"drift,omitempty"`

	// Forecast is there with --forecast.
	Forecast *forecastData `json:"forecast,omitempty"`
}

// askUpstash compares r with Upstash's own count, where credentials are configured. What cannot be asked
// is missing, and no reason to lose the audit.
func (a *app) askUpstash(ctx context.Context, conf *config.Config, r *commands.Report) commandsData {
	data := commandsData{Report: r}
	u, err := a.upstashUsage(ctx, conf, "")
	switch {
	case err != nil:
		r.Missing = append(r.Missing, "Upstash's own count: "+err.Error())
		return data
	case u == nil:
		return data
	}
	data.Upstash = u
	r.Measures = append(r.Measures, u.Measures()...)
	for _, b := range r.Bills {
		if b.Provider.Name == "upstash-payg" {
			data.Drift = u.Compare(b.BilledPerMonth)
		}
	}
	r.Findings = append(r.Findings, data.Drift.Findings(u.Database)...)
	return data
}

// upstashSection shows what Upstash counts beside our count.
func upstashSection(u *upstash.Usage, d *upstash.Drift) report.Section {
	fields := []report.Field{{Name: "database", Value: fmt.Sprintf("%s (%s)", u.Database, u.Type)}}
	if u.MonthToDate != nil {
		fields = append(fields, report.Field{Name: "this month", Value: commands.Millions(*u.MonthToDate) + " until " + u.At.Format(time.DateOnly)})
	}
	if u.PerMonth != nil {
		fields = append(fields, report.Field{Name: "a month", Value: commands.Millions(*u.PerMonth) + ", from " + u.Basis})
	}
	if d != nil {
		fields = append(fields, report.Field{Name: "our count", Value: fmt.Sprintf("%s, %+.1f%%", commands.Millions(d.Ours), d.Percent)})
	}
	if len(u.Commands) > 0 {
		var most []string
		for _, c := range u.Commands[:min(5, len(u.Commands))] {
			most = append(most, fmt.Sprintf("%s %.0f%%", c.Name, 100*c.Share))
		}
		fields = append(fields, report.Field{Name: "by command", Value: strings.Join(most, ", ")})
	}
	for _, m := range u.Missing {
		fields = append(fields, report.Field{Name: "not told", Value: m})
	}
	return report.Section{Title: "Counted by Upstash", Fields: fields}
}
