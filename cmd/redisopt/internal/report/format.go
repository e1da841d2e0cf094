package report

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A Format is one way to print a Document. It implements pflag.Value, so an unknown name is refused
// while flags are parsed.
type Format string

// The formats. The zero Format is FormatTable.
const (
	FormatTable    Format = "table"    // for people at a terminal
	FormatJSON     Format = "json"     // for scripts: the contract
	FormatMarkdown Format = "markdown" // for pull requests and job summaries
	FormatJUnit    Format = "junit"    // for CI systems that show test results
	FormatSARIF    Format = "sarif"    // for code scanning
	FormatGitHub   Format = "github"   // workflow annotations of GitHub Actions
	FormatGitLab   Format = "gitlab"   // code quality report of GitLab
)

// Formats returns every format in the order help shows them.
func Formats() []Format {
	return []Format{
		FormatTable, FormatJSON, FormatMarkdown, FormatJUnit, FormatSARIF, FormatGitHub, FormatGitLab,
	}
}

// String returns the name of f.
func (f *Format) String() string {
	if f == nil || *f == "" {
		return string(FormatTable)
	}
	return string(*f)
}

// Set parses name. It fails on anything but the exact name of a format.
func (f *Format) Set(name string) error {
	if !slices.Contains(Formats(), Format(name)) {
		return fmt.Errorf("want one of %s", names())
	}
	*f = Format(name)
	return nil
}

// Type is what help shows as the flag's value.
func (f *Format) Type() string { return "format" }

func names() string {
	all := Formats()
	list := make([]string, len(all))
	for i, f := range all {
		list[i] = string(f)
	}
	return strings.Join(list, ", ")
}

// WriteOptions say how to render.
type WriteOptions struct {
	// Width is the number of columns the table format may use. Default 80; at least 40.
	Width int

	// Color allows colour in the table format. Default false. No other format has any.
	Color bool

	// Now is the time written into formats that carry one (junit). The zero time writes none.
	Now time.Time

	// Version is the version of this program, for formats that name their tool. Default "devel".
	Version string
}

func (o WriteOptions) withDefaults() WriteOptions {
	if o.Width == 0 {
		o.Width = 80
	}
	o.Width = max(o.Width, 40)
	if o.Version == "" {
		o.Version = "devel"
	}
	return o
}

// Write renders doc in format f to w. The output ends in a newline unless it is empty, and is
// written by one call of w.Write, so that a failure to render prints nothing at all.
func Write(w io.Writer, f Format, doc Document, opts WriteOptions) error {
	if doc.Kind == "" {
		return errors.New("print document: it has no kind")
	}
	opts = opts.withDefaults()
	var out []byte
	var err error
	switch f {
	case FormatTable, "":
		out, err = renderTable(doc, opts)
	case FormatJSON:
		out, err = renderJSON(doc)
	case FormatMarkdown:
		out = renderMarkdown(doc)
	case FormatJUnit:
		out, err = renderJUnit(doc, opts)
	case FormatSARIF:
		out, err = renderSARIF(doc, opts)
	case FormatGitHub:
		out = renderGitHub(doc)
	case FormatGitLab:
		out, err = renderGitLab(doc)
	default:
		err = fmt.Errorf("unknown format %q, want one of %s", f, names())
	}
	if err != nil {
		return fmt.Errorf("print %s as %s: %w", doc.Kind, f, err)
	}
	if _, err := w.Write(out); err != nil {
		return fmt.Errorf("print %s: %w", doc.Kind, err)
	}
	return nil
}
