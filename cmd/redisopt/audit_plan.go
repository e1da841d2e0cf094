package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/inspect/plan"
	"github.com/redisopt/redisopt/internal/inspect/upstash"
	"github.com/redisopt/redisopt/internal/runtime/config"
)

// planFlags are the flags of audit plan.
type planFlags struct {
	gateFlags
	commands, inScript, peak, connections       quantity
	storage, bandwidth, requestSize, recordSize quantity
	writeShare                                  float64
	regions, databases                          int
	addOns                                      []string
	budget                                      float64

	from      []string
	database  string
	offline   bool
	provider  string
	current   string
	catalogue string
	rates     []string

	hours, hourlyRate, months float64
	target                    quantity
}

func (a *app) auditPlanCommand() *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "What a load costs on every plan, which is cheapest, and from where another one is",
		Long: `Prices a month of a load on the plans of a catalogue with dates and sources, says which can carry it, at
which loads another one takes over, and whether paying is cheaper than the work that would avoid it. The load
comes from flags, from documents that other audits wrote with -o json, or, where UPSTASH_EMAIL and
UPSTASH_API_KEY are set, from Upstash's own count. Talks to no Redis and spends no command.

Numbers may end in k or M, sizes in KB, MB, GB or TB of 1024.`,
		Example: `  redisopt audit plan --commands-per-month 12M --in-script 14M --storage-bytes 120MB
  redisopt audit commands -o json > load.json && redisopt audit plan --from load.json --hours 40 --hourly-rate 80`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.auditPlan(ctx, f) }),
	}
	set := cmd.Flags()
	f.register(set)
	for _, size := range []*quantity{&f.storage, &f.bandwidth, &f.requestSize, &f.recordSize} {
		size.bytes = true
	}
	set.Var(&f.commands, "commands-per-month", "commands that clients send")
	set.Var(&f.inScript, "in-script", "commands a month that scripts run, besides those")
	set.Var(&f.peak, "peak", "most commands a second")
	set.Var(&f.connections, "connections", "most connections at a time")
	set.Var(&f.storage, "storage-bytes", "bytes stored, of one copy")
	set.Var(&f.bandwidth, "bandwidth-bytes", "bytes of traffic a month")
	set.Var(&f.requestSize, "request-bytes", "the largest request or reply")
	set.Var(&f.recordSize, "record-bytes", "the largest key with its value")
	set.Float64Var(&f.writeShare, "write-share", 1, "part of the commands that write, 0 to 1 (default: not known, and taken as 1)")
	set.IntVar(&f.regions, "regions", 0, "read regions besides the primary one")
	set.IntVar(&f.databases, "databases", 1, "databases that share the load")
	set.StringArrayVar(&f.addOns, "add-on", nil, "also buy this `name`, such as prod-pack")
	set.Float64Var(&f.budget, "budget-usd", 0, "most dollars a month (default: budgets.money of the configuration)")
	set.StringArrayVar(&f.from, "from", nil, "take the load from this `file`, - for standard input: JSON of audit commands, connections or code")
	set.StringVar(&f.database, "database", "", "ask Upstash about this database, by id or `name`")
	set.BoolVar(&f.offline, "offline", false, "read no configuration and ask nobody")
	set.StringVar(&f.provider, "provider", "", "judge this plan, or compare only the plans of this provider")
	set.StringVar(&f.current, "current", "", "the `plan` that is paid for now")
	set.StringVar(&f.catalogue, "catalogue", "", "take prices from this `file` instead")
	set.StringArrayVar(&f.rates, "rate", nil, "price a plan that publishes none: `plan=usd`[/h|/month][,nodes=n][,memory=bytes][,connections=n]")
	set.Float64Var(&f.hours, "hours", 0, "hours of work that would lower the load")
	set.Float64Var(&f.hourlyRate, "hourly-rate", 0, "dollars for an hour of that work")
	set.Float64Var(&f.months, "months", 12, "months over which the work must pay")
	set.Var(&f.target, "target-commands", "commands a month, those in scripts included, that the work leaves")
	return cmd
}

func (a *app) auditPlan(ctx context.Context, f planFlags) error {
	catalogue, err := readCatalogue(f.catalogue)
	if err != nil {
		return &usageError{err}
	}
	rates, err := parseRates(f.rates)
	if err != nil {
		return &usageError{err}
	}
	load, assumed, missing, err := a.recordedLoad(f.from)
	if err != nil {
		return &usageError{err}
	}
	opts := plan.Options{Catalogue: catalogue, Now: a.now(), Provider: f.provider, Current: f.current, Rates: rates, Work: f.effort()}
	data := pricesData{}
	if !f.offline {
		conf, err := a.load(config.Need{})
		if err != nil {
			return err
		}
		load.BudgetUSDPerMonth = conf.Budgets.Money.USDPerMonth
		u, err := a.upstashUsage(ctx, conf, f.database)
		switch {
		case err != nil && load.Top == 0 && f.commands.value == 0:
			return err
		case err != nil:
			missing = append(missing, "Upstash's own count: "+err.Error())
		case u != nil:
			data.Upstash = u
			counted, current, told := catalogue.Load(countedByUpstash(u))
			load = load.Or(counted)
			assumed = append(assumed, told...)
			if opts.Current == "" && opts.Provider == "" {
				opts.Current = current
			}
		}
	}
	load = f.over(load, a.cmd.Flags().Changed)
	if err := f.known(load); err != nil {
		return err
	}
	data.Report, err = plan.Compare(load, opts)
	if err != nil {
		return &usageError{err}
	}
	data.Assumptions = append(data.Assumptions, assumed...)
	data.Missing = append(data.Missing, missing...)
	if u := data.Upstash; u != nil && !slices.Contains(load.Sources, upstashSource) {
		data.Drift = u.Compare(catalogue.Counts("upstash", load))
		data.Findings = append(data.Findings, data.Drift.Findings(u.Database)...)
	}
	if err := a.print(pricesDocument(data)); err != nil {
		return err
	}
	return f.verdict(data.Findings, data.Missing)
}

// known refuses to price a load of which nobody said anything.
func (f planFlags) known(load plan.Load) error {
	if load.Top != 0 || load.InScript != 0 {
		return nil
	}
	return withHint(usagef("the load is not known: how many commands a month are sent"),
		"--commands-per-month 12M, or --from a document of audit commands -o json, or UPSTASH_EMAIL and UPSTASH_API_KEY")
}

func (f planFlags) effort() *plan.Effort {
	if f.hours == 0 && f.hourlyRate == 0 && f.target.value == 0 {
		return nil
	}
	return &plan.Effort{Hours: f.hours, USDPerHour: f.hourlyRate, Months: f.months, TargetPerMonth: f.target.value}
}

// over puts what the flags say in the place of what is in load.
func (f planFlags) over(load plan.Load, given func(string) bool) plan.Load {
	said := false
	for _, x := range []struct {
		name string
		into *float64
		from float64
	}{
		{"commands-per-month", &load.Top, f.commands.value},
		{"in-script", &load.InScript, f.inScript.value},
		{"peak", &load.PeakPerSecond, f.peak.value},
		{"connections", &load.Connections, f.connections.value},
		{"storage-bytes", &load.StorageBytes, f.storage.value},
		{"bandwidth-bytes", &load.BandwidthBytesPerMonth, f.bandwidth.value},
		{"request-bytes", &load.RequestBytes, f.requestSize.value},
		{"record-bytes", &load.RecordBytes, f.recordSize.value},
		{"budget-usd", &load.BudgetUSDPerMonth, f.budget},
	} {
		if given(x.name) {
			*x.into, said = x.from, true
		}
	}
	if given("commands-per-month") {
		load.ByCommand, load.Sources = nil, []string{}
		if !given("in-script") {
			load.InScript = 0
		}
	}
	if given("write-share") {
		load.WriteShare, said = &f.writeShare, true
	}
	if given("regions") {
		load.ReadRegions, said = f.regions, true
	}
	if given("add-on") {
		load.AddOns, said = f.addOns, true
	}
	load.Databases = f.databases
	if said {
		load.Sources = append(load.Sources, "flags")
	}
	return load
}

// recordedLoad is the load in the documents at paths.
func (a *app) recordedLoad(paths []string) (plan.Load, []string, []string, error) {
	var records []*plan.Record
	var errs []error
	for _, path := range paths {
		rec, err := a.readRecord(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("--from %s: %w", path, err))
			continue
		}
		records = append(records, rec)
	}
	if err := errors.Join(errs...); err != nil {
		return plan.Load{}, nil, nil, err
	}
	load, assumed, missing, err := plan.Gather(records)
	if err != nil {
		err = fmt.Errorf("--from: %w", err)
	}
	return load, assumed, missing, err
}

func (a *app) readRecord(path string) (*plan.Record, error) {
	in := a.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, withoutPath(err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	return plan.ReadRecord(in)
}

func readCatalogue(path string) (*plan.Catalogue, error) {
	if path == "" {
		return plan.Embedded()
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--catalogue %s: %w", path, withoutPath(err))
	}
	defer func() { _ = f.Close() }()
	c, err := plan.Parse(io.Reader(f))
	if err != nil {
		return nil, fmt.Errorf("--catalogue %s: %w", path, err)
	}
	return c, nil
}

// withoutPath is err without the path that os puts before it.
func withoutPath(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

// upstashSource names the Developer API among the sources of a load.
const upstashSource = "Upstash Developer API"

// countedByUpstash is u in the words of a comparison.
func countedByUpstash(u *upstash.Usage) plan.Counted {
	n := plan.Counted{
		Provider: "upstash", Source: upstashSource, Basis: u.Basis,
		PerMonth: u.PerMonth, ScriptShare: u.ScriptShare, WriteShare: u.WriteShare,
		StorageBytes: u.StorageBytes, Bandwidth: u.BandwidthPerMonth, Connections: u.Connections, PeakPerSecond: u.PeakPerSecond,
		ReadRegions: u.ReadRegions, BudgetUSD: u.BudgetUSD, MaxStorageBytes: u.MaxStorageBytes,
		Free: u.Type == upstash.Free, PerCommand: u.Type == upstash.PayAsGo,
	}
	if u.ProdPack {
		n.AddOns = []string{"prod-pack"}
	}
	return n
}

// A quantity is a number with an optional unit: k, M and G of 1000, or where bytes is set KB, MB, GB and
// TB of 1024.
type quantity struct {
	value float64
	bytes bool
	text  string
}

// String returns what was given.
func (q *quantity) String() string { return q.text }

// Type is what help shows as the flag's value.
func (q *quantity) Type() string {
	if q.bytes {
		return "bytes"
	}
	return "n"
}

// Set parses s.
func (q *quantity) Set(s string) error {
	v, err := parseQuantity(s, q.bytes)
	if err != nil {
		return err
	}
	q.value, q.text = v, s
	return nil
}

func parseQuantity(s string, bytes bool) (float64, error) {
	units, want := map[string]float64{"k": 1e3, "M": 1e6, "G": 1e9}, "a number such as 500000, 500k or 12M"
	if bytes {
		units, want = map[string]float64{"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40, "B": 1}, "a size such as 120MB or 2GB"
	}
	digits := strings.TrimRight(s, "kKMGTB")
	factor := 1.0
	if unit := s[len(digits):]; unit != "" {
		factor = units[unit]
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if err != nil || factor == 0 || !(n >= 0) || n*factor > 1e18 {
		return 0, errors.New("want " + want)
	}
	return n * factor, nil
}

// parseRates reads PLAN=USD[/h|/month][,nodes=N][,memory=BYTES][,connections=N].
func parseRates(texts []string) (map[string]plan.Rate, error) {
	rates := map[string]plan.Rate{}
	for _, text := range texts {
		name, rest, ok := strings.Cut(text, "=")
		bad := func(why string) error { return fmt.Errorf("--rate %s: %s", text, why) }
		if _, twice := rates[name]; !ok || name == "" || twice {
			return nil, bad("want PLAN=USD, once for a plan")
		}
		parts := strings.Split(rest, ",")
		price, unit, _ := strings.Cut(parts[0], "/")
		factor, known := map[string]float64{"": 1, "month": 1, "h": 30 * 24}[unit]
		usd, err := strconv.ParseFloat(price, 64)
		if err != nil || !known || !(usd >= 0) {
			return nil, bad("want dollars a month, or an hour: 12.50, 12.50/month or 0.034/h")
		}
		r := plan.Rate{USDPerMonth: usd * factor, Nodes: 1}
		for _, part := range parts[1:] {
			key, value, _ := strings.Cut(part, "=")
			n, err := parseQuantity(value, key == "memory")
			switch {
			case err != nil:
				return nil, bad(key + ": " + err.Error())
			case key == "nodes" && n >= 1 && n <= 1000 && n == float64(int(n)):
				r.Nodes = int(n)
			case key == "memory":
				r.MemoryBytes = n
			case key == "connections":
				r.MaxConnections = n
			default:
				return nil, bad("want nodes (1 to 1000), memory or connections after the price, got " + part)
			}
		}
		rates[name] = r
	}
	return rates, nil
}
