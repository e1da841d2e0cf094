package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/config"
)

func (a *app) configCommand() *cobra.Command {
	return a.group("config", "Write, check and explain the configuration",
		`  redisopt config init
  redisopt config check`,
		a.configInitCommand(),
		a.configCheckCommand(),
		a.configShowCommand(),
		a.configSchemaCommand(),
	)
}

// originData is where a value came from, in config.show/v1 and config.check/v1.
type originData struct {
	Source string `json:"source"`           // "flag", "env", "file", "default"; empty when nothing was set
	Name   string `json:"name,omitempty"`   // of the flag or variable
	Path   string `json:"path,omitempty"`   // of the configuration file, or the file a _FILE variable names
	Line   int    `json:"line,omitempty"`   // in the configuration file, from 1
	Column int    `json:"column,omitempty"` // from 1
}

func originOf(o config.Origin) originData {
	return originData{Source: o.Kind.String(), Name: o.Name, Path: o.Path, Line: o.Line, Column: o.Column}
}

// configFile is the file of this run, whether or not it exists.
func (a *app) configFile() string {
	if a.flags.config != "" {
		return a.flags.config
	}
	return config.DefaultFile
}

// showData is the contract of config.show/v1.
type showData struct {
	File   string      `json:"file"`
	Values []valueData `json:"values"`
}

type valueData struct {
	Key    string     `json:"key"`
	Value  string     `json:"value"` // secrets masked; empty when not set
	Origin originData `json:"origin"`
}

func (a *app) configShowCommand() *cobra.Command {
	var changed bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show every value and where it came from, secrets masked",
		Example: `  redisopt config show
  redisopt config show --changed`,
		Args: cobra.NoArgs,
		RunE: a.action(func(context.Context, []string) error {
			conf, err := config.Load(a.sources(config.Need{}))
			if printErr := a.print(showDocument(a.configFile(), conf, changed)); printErr != nil {
				return printErr
			}
			if err != nil {
				return &usageError{err}
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&changed, "changed", false, "leave out what has its default")
	return cmd
}

func showDocument(file string, conf *config.Config, changed bool) report.Document {
	data := showData{File: file, Values: []valueData{}}
	table := &report.Table{Columns: []report.Column{{Name: "key"}, {Name: "value", Elastic: true}, {Name: "from"}}}
	for _, v := range conf.Values() {
		if changed && v.Origin.Kind == config.FromDefault {
			continue
		}
		data.Values = append(data.Values, valueData{v.Key, v.Value, originOf(v.Origin)})
		table.Rows = append(table.Rows, []string{v.Key, v.Value, v.Origin.String()})
	}
	doc := report.Document{Kind: "config.show/v1", Data: data, Title: "Configuration"}
	if len(table.Rows) == 0 {
		doc.Notes = []string{"Everything has its default."}
		return doc
	}
	doc.Sections = []report.Section{{Table: table}}
	return doc
}

// checkData is the contract of config.check/v1.
type checkData struct {
	File     string        `json:"file"`
	Valid    bool          `json:"valid"`
	Problems []problemData `json:"problems"`
	Warnings []problemData `json:"warnings"`
}

type problemData struct {
	Key     string     `json:"key"` // empty when no single key is meant
	Origin  originData `json:"origin"`
	Message string     `json:"message"`
}

func (a *app) configCheckCommand() *cobra.Command {
	var needs needFlag
	cmd := &cobra.Command{
		Use:   "check",
		Short: "List everything that is wrong at once, without connecting",
		Example: `  redisopt config check
  redisopt config check --need queues --config redisopt.production.yaml`,
		Args: cobra.NoArgs,
		RunE: a.action(func(context.Context, []string) error {
			conf, err := config.Load(a.sources(needs.need))
			problems := append(config.Problems(err), unknownNames(conf)...)
			if printErr := a.print(checkDocument(a.configFile(), problems, conf.Warnings())); printErr != nil {
				return printErr
			}
			if len(problems) == 0 {
				return nil
			}
			return withHint(verdictf(exitUsage, "%s in the configuration", plural(int64(len(problems)), "problem")),
				"redisopt config show says where each value came from, docs/configuration.md what each key means")
		}),
	}
	cmd.Flags().Var(&needs, "need", "it must be enough for this, comma-separated: upstream, queues, connections, rest, token")
	return cmd
}

// A needFlag is what the configuration must be enough for.
type needFlag struct {
	need  config.Need
	names []string
}

// String returns the names.
func (n *needFlag) String() string { return strings.Join(n.names, ",") }

// Type is what help shows as the flag's value.
func (n *needFlag) Type() string { return "what" }

// Set adds the needs in list.
func (n *needFlag) Set(list string) error {
	for name := range strings.SplitSeq(list, ",") {
		switch name {
		case "upstream":
			n.need.Upstream = true
		case "queues":
			n.need.Queues = true
		case "connections":
			n.need.Connections = true
		case "rest":
			n.need.REST = true
		case "token":
			n.need.Token = true
		default:
			return fmt.Errorf("got %q, want upstream, queues, connections, rest or token", name)
		}
		n.names = append(n.names, name)
	}
	return nil
}

func checkDocument(file string, problems, warnings []*config.Problem) report.Document {
	data := checkData{File: file, Valid: len(problems) == 0, Problems: problemsData(problems), Warnings: problemsData(warnings)}
	doc := report.Document{
		Kind: "config.check/v1", Data: data, Title: "Configuration",
		Findings: slices.Concat(configFindings("configuration", report.SeverityCritical, problems), configFindings("configuration-warning", report.SeverityWarning, warnings)),
	}
	if data.Valid {
		doc.Checks = []report.Check{{Group: "configuration", Name: "every value can be used", Verdict: report.Pass}}
	}
	return doc
}

func problemsData(problems []*config.Problem) []problemData {
	all := []problemData{}
	for _, p := range problems {
		origin := originOf(p.Origin)
		if p.Origin.Kind == config.FromDefault {
			origin = originData{} // nothing was set, and that is the problem
		}
		all = append(all, problemData{p.Key, origin, p.Message})
	}
	return all
}

func configFindings(rule string, severity report.Severity, problems []*config.Problem) []report.Finding {
	var all []report.Finding
	for _, p := range problems {
		f := report.Finding{Rule: rule, Severity: severity, Subject: p.Key, Message: p.Message}
		switch p.Origin.Kind {
		case config.FromFile:
			f.File, f.Line, f.Column = p.Origin.Path, p.Origin.Line, p.Origin.Column
		case config.FromEnv, config.FromFlag:
			f.Message = p.Origin.String() + ": " + p.Message
		case config.FromDefault:
		}
		all = append(all, f)
	}
	return all
}

func (a *app) configSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of redisopt.yaml, as it is; with -o json inside a document",
		Example: `  redisopt config schema > redisopt.schema.json
  redisopt config schema -o json`,
		Args: cobra.NoArgs,
		RunE: a.action(func(context.Context, []string) error {
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			if a.flags.output == report.FormatTable {
				_, err := a.out.Write(schema)
				return err
			}
			return a.print(report.Document{
				Kind: "config.schema/v1", Data: json.RawMessage(schema), Title: "JSON Schema of redisopt.yaml",
				Notes: []string{"The schema itself is printed by -o json, or without -o."},
			})
		}),
	}
}
