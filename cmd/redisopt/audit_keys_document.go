package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/keys"
)

func keysDocument(data keysData) report.Document {
	r := data.Report
	doc := report.Document{
		Kind: "audit.keys/v1", Data: data, Title: "Keys",
		Findings: reportFindings(r.Findings),
		Checks:   keyChecks(r),
		Sections: []report.Section{{Fields: keyFields(data)}},
	}
	if len(r.Prefixes) > 0 {
		doc.Sections = append(doc.Sections, prefixSection(r), expirySection(r), biggestSection(r))
	}
	if s, some := valueSection(r); some {
		doc.Sections = append(doc.Sections, s)
	}
	for _, m := range r.Missing {
		doc.Notes = append(doc.Notes, "not observed: "+m)
	}
	doc.Notes = append(doc.Notes, r.Notes...)
	doc.Notes = append(doc.Notes, keyNotes(r)...)
	return doc
}

func keyFields(data keysData) []report.Field {
	r := data.Report
	var fields []report.Field
	if d := data.Dump; d != nil {
		fields = append(fields, report.Field{
			Name:  "dump",
			Value: fmt.Sprintf("%s: %d keys, %d expired since; database %d", d.File, d.Loaded, d.Expired, d.Database),
		})
	} else {
		fields = append(fields,
			report.Field{Name: "server", Value: strings.TrimSpace(r.Server.Provider + " " + r.Server.Version)},
			report.Field{Name: "when full", Value: cmp.Or(r.Policy, "not observable here")})
	}
	names := fmt.Sprintf("%d by %s", r.Names, r.NamesFrom)
	if r.Complete {
		names += ", which is all"
	}
	return append(fields,
		report.Field{Name: "keys", Value: strconv.FormatInt(r.Keys, 10)},
		report.Field{Name: "names read", Value: names},
		report.Field{Name: "in detail", Value: fmt.Sprintf("%d by lot, %d for their name, %d gone meanwhile", r.Detailed, r.Picked, r.Gone)},
		report.Field{Name: "sizes", Value: sizesFrom(r)},
	)
}

func sizesFrom(r *keys.Report) string {
	if r.SizeFrom == "elements" {
		return "from a few elements of each key, without the server's overhead"
	}
	return r.SizeFrom
}

func keyNotes(r *keys.Report) []string {
	var notes []string
	for _, p := range r.Prefixes {
		if p.NoTTL.Insufficient {
			notes = append(notes, "insufficient: fewer than 10 keys of the prefix were looked at; --max-commands or --prefix gives more")
			break
		}
	}
	if !r.Complete {
		notes = append(notes, "ranges are 95% intervals of a sample; the order of SCAN is taken for random, as it is on Redis and Valkey")
	}
	if r.RequestLimit == keys.RequestLimitBytes {
		notes = append(notes, "request limit: "+keys.Bytes(float64(r.RequestLimit))+", as Upstash's plans up to 1 GB had it on "+keys.RequestLimitAsOf)
	}
	return notes
}

func prefixSection(r *keys.Report) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "prefix", Elastic: true},
		{Name: "of"},
		{Name: "share", Right: true},
		{Name: "looked at", Right: true},
		{Name: "types"},
		{Name: "mean size", Right: true},
		{Name: "never expire", Right: true},
	}}
	for _, p := range r.Prefixes {
		mean := "insufficient"
		if p.MeanBytes != nil {
			mean = keys.Bytes(*p.MeanBytes)
		}
		t.Rows = append(t.Rows, []string{
			p.Name, cmp.Or(string(p.Family), "-"), shareCell(p.Share), strconv.Itoa(p.Detailed), typesCell(p.Types), mean, shareCell(p.NoTTL),
		})
	}
	return report.Section{Title: "By prefix", Table: t}
}

// shareCell is a share in a few characters: "57%", "4.1..12%", or that it is none.
func shareCell(s keys.Share) string {
	switch {
	case s.Samples == 0:
		return "-"
	case s.Insufficient:
		return "insufficient"
	case *s.High > 0 && *s.High < 0.001:
		return "<0.1%"
	case s.Exact:
		return percentCell(*s.Value) + "%"
	}
	return percentCell(*s.Low) + ".." + percentCell(*s.High) + "%"
}

// percentCell is a share in percent, with one decimal where that says something.
func percentCell(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(100*v, 'f', 1, 64), ".0")
}

func typesCell(types map[string]int) string {
	names := slices.Sorted(maps.Keys(types))
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(types[b], types[a]) })
	return cmp.Or(strings.Join(names, " "), "-")
}

func expirySection(r *keys.Report) report.Section {
	const hour, day = 3600, 24 * 3600
	bounds := []int64{60, hour, day, 7 * day, 30 * day, 0}
	t := &report.Table{Columns: []report.Column{
		{Name: "prefix", Elastic: true},
		{Name: "never", Right: true},
		{Name: "1 min", Right: true},
		{Name: "1 h", Right: true},
		{Name: "1 day", Right: true},
		{Name: "7 days", Right: true},
		{Name: "30 days", Right: true},
		{Name: "longer", Right: true},
	}}
	idle := slices.ContainsFunc(r.Prefixes, func(p keys.Prefix) bool { return p.IdleMedianSeconds != nil })
	if idle {
		t.Columns = append(t.Columns, report.Column{Name: "idle", Right: true})
	}
	for _, p := range r.Prefixes {
		row := []string{p.Name, strconv.Itoa(p.NoTTL.Hits)}
		for _, b := range bounds {
			i := slices.IndexFunc(p.TTL, func(e keys.Expiry) bool { return e.UpToSeconds == b })
			n := 0
			if i >= 0 {
				n = p.TTL[i].Keys
			}
			row = append(row, strconv.Itoa(n))
		}
		if p.IdleMedianSeconds != nil {
			row = append(row, shortDuration(time.Duration(*p.IdleMedianSeconds*float64(time.Second))))
		}
		t.Rows = append(t.Rows, row)
	}
	title := "Keys in detail that expire within"
	if idle {
		title += ", and how long half of them were not touched"
	}
	return report.Section{Title: title, Table: t}
}

func biggestSection(r *keys.Report) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "key", Elastic: true},
		{Name: "type"},
		{Name: "size", Right: true},
		{Name: "elements", Right: true},
		{Name: "expires in", Right: true},
		{Name: "read by"},
		{Name: "commands", Right: true},
	}}
	for _, k := range r.Biggest {
		size, elements, expires, commands := "-", "-", "never", "-"
		if k.Bytes != nil {
			size = keys.Bytes(float64(*k.Bytes))
		}
		if k.Elements != nil {
			elements = strconv.FormatInt(*k.Elements, 10)
		}
		if k.TTLSeconds != nil {
			expires = shortDuration(time.Duration(*k.TTLSeconds * float64(time.Second)))
		}
		if k.FullRead.Commands > 0 {
			commands = strconv.Itoa(k.FullRead.Commands)
		}
		t.Rows = append(t.Rows, []string{k.Name, k.Type, size, elements, expires, cmp.Or(k.FullRead.Command, "-"), commands})
	}
	return report.Section{Title: "The largest that were looked at, and a full read of each", Table: t}
}

func valueSection(r *keys.Report) (s report.Section, some bool) {
	t := &report.Table{Columns: []report.Column{
		{Name: "prefix", Elastic: true},
		{Name: "strings", Right: true},
		{Name: "classes", Elastic: true},
		{Name: "JSON.parse throws", Right: true},
		{Name: "type changes", Right: true},
	}}
	for _, p := range r.Prefixes {
		v := p.Values
		if v == nil {
			continue
		}
		var classes []string
		for _, c := range slices.Sorted(maps.Keys(v.Classes)) {
			classes = append(classes, fmt.Sprintf("%s %d", strings.TrimPrefix(strings.ReplaceAll(string(c), "_", " "), "json "), v.Classes[c]))
		}
		t.Rows = append(t.Rows, []string{
			p.Name, strconv.Itoa(v.Throws.Samples), strings.Join(classes, ", "), shareCell(v.Throws), shareCell(v.Changes),
		})
	}
	text := "What a client on ioredis with JSON.parse and one on @upstash/redis would make of the values; none is shown."
	return report.Section{Title: "String values", Text: text, Table: t}, len(t.Rows) > 0
}

// keyChecks are what a build may rely on.
func keyChecks(r *keys.Report) []report.Check {
	found := func(rule string) *inspect.Finding {
		i := slices.IndexFunc(r.Findings, func(f inspect.Finding) bool { return f.Rule == rule })
		if i < 0 {
			return nil
		}
		return &r.Findings[i]
	}
	var checks []report.Check
	check := func(name, rule string, observable bool) {
		c := report.Check{Group: "keys", Name: name, Verdict: report.Pass}
		switch f := found(rule); {
		case f != nil:
			c.Verdict, c.Message = report.Fail, f.Subject+": "+f.Message
			if f.Severity == inspect.Note {
				c.Verdict = report.Inconclusive // true, but not known to matter here, or of too few samples
			}
		case !observable:
			c.Verdict, c.Message = report.Inconclusive, "not observable here"
		}
		checks = append(checks, c)
	}
	check("jobs are safe from eviction", "queue-eviction", r.Policy != "")
	check("full reads of the keys looked at stay within the request limit", "full-read-over-limit", len(r.Biggest) == 0 || r.Biggest[0].Bytes != nil)
	check("short-lived keys expire", "missing-ttl", true)
	return checks
}
