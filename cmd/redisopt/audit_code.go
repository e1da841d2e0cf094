package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect/commands"
	"github.com/redisopt/redisopt/internal/inspect/source"
)

// codeFlags are the flags of audit code.
type codeFlags struct {
	gateFlags
	source.Options
	env []string
}

func (a *app) auditCodeCommand() *cobra.Command {
	var f codeFlags
	cmd := &cobra.Command{
		Use:   "code [PATH]",
		Short: "Connections and idle cost predicted from TypeScript, JavaScript and Go source",
		Long: `Follows an application's code from its entry points and predicts the connections of each process
and queue, and what idling costs a month; reports what to change, on which line. Needs no Redis, runs
nothing of the application and changes no file. What the code does not tell is a range with its reason.`,
		Example: `  redisopt audit code
  redisopt audit code ./services/mail --replicas 3 --entry src/worker.ts -o sarif`,
		Args: cobra.MaximumNArgs(1),
		PreRunE: func(*cobra.Command, []string) error {
			f.Env = make(map[string]string)
			for _, pair := range f.env {
				name, v, ok := strings.Cut(pair, "=")
				if !ok || name == "" {
					return fmt.Errorf("--env: got %q, want NAME=VALUE", pair)
				}
				f.Env[name] = v
			}
			return f.Validate()
		},
		RunE: a.action(func(ctx context.Context, args []string) error {
			root := "."
			if len(args) > 0 {
				root = args[0]
			}
			return a.auditCode(ctx, root, f)
		}),
	}
	set := cmd.Flags()
	f.register(set)
	set.IntVar(&f.Replicas, "replicas", 1, "`n` instances of every process run")
	set.StringArrayVar(&f.Entries, "entry", nil, "a process begins with this `file` or these files (default: what package.json and Procfile start)")
	set.StringArrayVar(&f.Exclude, "exclude", nil, "do not read paths or names like this `glob`")
	set.StringArrayVar(&f.env, "env", nil, "an environment variable has this value, `NAME=VALUE` (default: code's own default); no secrets")
	return cmd
}

func (a *app) auditCode(ctx context.Context, root string, f codeFlags) error {
	bar := a.progress("files")
	bar.begin("read "+root, 0)
	r, err := source.Scan(ctx, root, f.Options)
	bar.finish()
	if err != nil {
		_, isPath := errors.AsType[*fs.PathError](err)
		if _, isEntry := errors.AsType[*source.EntryError](err); isPath || isEntry {
			return usagef("%w", err)
		}
		return err
	}
	doc := codeDocument(r)
	fromHere(doc.Findings, root)
	if err := a.print(doc); err != nil {
		return err
	}
	return f.verdict(r.Findings, r.Missing)
}

// fromHere makes the files of findings relative to the working directory, which in a CI job is that of
// the repository; in the data they stay relative to the tree that was read.
func fromHere(found []report.Finding, root string) {
	if !filepath.IsLocal(root) {
		return
	}
	below := func(file string) string {
		if file == "" {
			return ""
		}
		return path.Join(filepath.ToSlash(root), file)
	}
	for i := range found {
		found[i].File = below(found[i].File)
		if found[i].Fix != nil {
			for j := range found[i].Fix.Edits {
				found[i].Fix.Edits[j].File = below(found[i].Fix.Edits[j].File)
			}
		}
	}
}

func codeDocument(r *source.Report) report.Document {
	doc := report.Document{
		Kind: "audit.code/v1", Data: r, Title: "Code", Findings: reportFindings(r.Findings),
		Sections: []report.Section{{Fields: codeFields(r)}},
	}
	if len(r.Processes) > 0 {
		doc.Sections = append(doc.Sections, codeProcessSection(r), codeSiteSection(r), codeBillSection(r))
	}
	if len(r.Unresolved) > 0 {
		doc.Sections = append(doc.Sections, unresolvedSection(r))
	}
	for _, s := range r.Assumptions {
		doc.Notes = append(doc.Notes, "assumed: "+s)
	}
	for _, s := range r.Missing {
		doc.Notes = append(doc.Notes, "not followed: "+s)
	}
	return doc
}

func codeFields(r *source.Report) []report.Field {
	read := fmt.Sprintf("%d scripts, %d Go files, %d lines", r.Files.Scripts, r.Files.Go, r.Files.Lines)
	fields := []report.Field{{Name: "read", Value: read}}
	if s := skippedText(r.Files); s != "" {
		fields = append(fields, report.Field{Name: "not read", Value: s})
	}
	if len(r.Packages) > 0 {
		var list []string
		for _, p := range r.Packages {
			version := p.Wanted
			if p.Locked != "" {
				version = p.Locked
			}
			list = append(list, p.Name+" "+version)
		}
		fields = append(fields, report.Field{Name: "packages", Value: strings.Join(list, ", ")})
	}
	fields = append(fields,
		report.Field{Name: "connections", Value: fmt.Sprintf("%s with %s of each process", rangeText(r.Connections, wholeNumber), plural(int64(r.Replicas), "instance"))},
		report.Field{Name: "rolling deploy", Value: rangeText(r.RollingDeploy, wholeNumber) + ", while old and new run beside each other"},
		report.Field{Name: "idle, top-level", Value: rangeText(r.Idle.Top, commands.Millions) + " commands a month" + budgetMultiple(r.Idle.Top, r.Budget)},
		report.Field{Name: "idle, all", Value: rangeText(r.Idle.All, commands.Millions) + " with those in scripts" + budgetMultiple(r.Idle.All, r.Budget)},
	)
	return fields
}

func budgetMultiple(n source.Range, budget int64) string {
	if !n.Exact() || budget == 0 || n.Min == 0 {
		return ""
	}
	return fmt.Sprintf(", %.1f times %s", n.Min/float64(budget), commands.Millions(float64(budget)))
}

func wholeNumber(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// rangeText is "33", "12 to 33" or "12 or more".
func rangeText(r source.Range, number func(float64) string) string {
	switch {
	case r.Open:
		return number(r.Min) + " or more"
	case r.Exact():
		return number(r.Min)
	}
	return number(r.Min) + " to " + number(r.Max)
}

func skippedText(f source.Files) string {
	var parts []string
	add := func(n int, one, many string) {
		switch {
		case n == 1:
			parts = append(parts, "1 "+one)
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", n, many))
		}
	}
	add(f.Skipped.Directories, "generated directory", "generated directories")
	add(f.Skipped.Links, "symbolic link", "symbolic links")
	add(f.Skipped.Huge, "huge file", "huge files")
	add(f.Skipped.Minified, "minified file", "minified files")
	add(f.Skipped.Excluded, "excluded", "excluded")
	add(f.Skipped.Unreadable, "unreadable file", "unreadable files")
	add(f.Unparsed, "file with a syntax error", "files with syntax errors")
	return strings.Join(parts, ", ")
}

func codeProcessSection(r *source.Report) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "process", Elastic: true},
		{Name: "queues", Right: true},
		{Name: "connections", Right: true},
		{Name: "idle top/month", Right: true},
		{Name: "idle all/month", Right: true},
	}}
	for _, p := range r.Processes {
		t.Rows = append(t.Rows, []string{
			p.Name, strconv.Itoa(len(p.Queues)), rangeText(p.Connections, wholeNumber),
			rangeText(p.Idle.Top, commands.Millions), rangeText(p.Idle.All, commands.Millions),
		})
	}
	return report.Section{Title: "One instance of each process", Table: t}
}

func codeSiteSection(r *source.Report) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "where", Elastic: true},
		{Name: "makes", Elastic: true},
		{Name: "times", Right: true},
		{Name: "connections", Right: true},
		{Name: "idle all/month", Right: true},
	}}
	for _, p := range r.Processes {
		for _, s := range p.Sites {
			what := string(s.Library) + " " + string(s.Kind)
			if s.Shared {
				what += ", shared"
			}
			t.Rows = append(t.Rows, []string{
				fmt.Sprintf("%s:%d", s.File, s.Line), what, rangeText(s.Made, wholeNumber),
				rangeText(s.Connections, wholeNumber), rangeText(s.Idle.All, commands.Millions),
			})
		}
	}
	if len(t.Rows) == 0 {
		return report.Section{Title: "By place", Text: "nothing that talks to a Redis was found"}
	}
	return report.Section{Title: "By place", Table: t}
}

func codeBillSection(r *source.Report) report.Section {
	t := &report.Table{Columns: []report.Column{
		{Name: "plan"}, {Name: "billed idle/month", Right: true}, {Name: "usd/month", Right: true}, {Name: "why", Elastic: true}, {Name: "as of"},
	}}
	for _, b := range r.Bills {
		usd := "-"
		if b.USDPerMonth.Max > 0 {
			usd = rangeText(b.USDPerMonth, func(n float64) string { return fmt.Sprintf("%.2f", n) })
		}
		t.Rows = append(t.Rows, []string{b.Plan, rangeText(b.BilledPerMonth, commands.Millions), usd, b.Note, b.AsOf})
	}
	return report.Section{Title: "A month of idling on a plan", Table: t}
}

func unresolvedSection(r *source.Report) report.Section {
	t := &report.Table{Columns: []report.Column{{Name: "where", Elastic: true}, {Name: "not known", Elastic: true}, {Name: "because", Elastic: true}}}
	for _, u := range r.Unresolved {
		t.Rows = append(t.Rows, []string{fmt.Sprintf("%s:%d", u.File, u.Line), u.What, u.Why})
	}
	return report.Section{Title: "What the code does not tell", Table: t}
}
