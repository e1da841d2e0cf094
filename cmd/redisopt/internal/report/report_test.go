package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fixedTime is the clock of golden files; its zone proves that times are printed in UTC.
func fixedTime() time.Time {
	return time.Date(2026, time.March, 4, 5, 6, 7, 0, time.FixedZone("", 3600))
}

type exampleData struct {
	At         time.Time         `json:"at"`
	Total      int               `json:"total"`
	Queues     []exampleQueue    `json:"queues"`
	Unknown    []string          `json:"unknown"`
	Labels     map[string]string `json:"labels"`
	Plan       *exampleQueue     `json:"plan"`
	Suggestion string            `json:"suggestion,omitempty"`
}

type exampleQueue struct {
	Name        string   `json:"name"`
	Connections int      `json:"connections"`
	Peers       []string `json:"peers"`
}

// examples are documents that use every feature, by the name of their golden files.
func examples() map[string]Document {
	return map[string]Document{
		"audit": {
			Kind: "example.audit/v1",
			Data: exampleData{
				At: fixedTime(), Total: 33,
				Queues: []exampleQueue{{Name: "mail", Connections: 3, Peers: []string{"10.0.0.7:5123"}}, {Name: "a<b>&c", Connections: 30}},
			},
			Title: "Connections of cache.example:6379",
			Sections: []Section{
				{Fields: []Field{{"connections", "33 of 20 allowed"}, {"measured", "one snapshot of CLIENT LIST, which says nothing about the hour before it; watch for ten minutes to see churn"}}},
				{Title: "By queue", Table: &Table{
					Columns: []Column{{Name: "Queue"}, {Name: "Role"}, {Name: "Connections", Right: true}, {Name: "What to know", Elastic: true}},
					Rows: [][]string{
						{"mail", "subscriber", "3", "shared by nobody"},
						{"a-queue-whose-name-somebody-made-very-long-indeed-and-then-longer", "blocking", "30", "each worker holds one connection that waits, and Bull cannot share it between queues"},
						{"evil\x1b[31m|queue", "client"},
					},
					Total: []string{"total", "", "33"},
				}},
				{Title: "In words", Text: "Bull opens three connections for every queue.\nBullMQ opens two and shares them when told to."},
			},
			Findings: []Finding{
				{Rule: "unnamed", Severity: SeverityNote, Subject: "10.0.0.9", Message: "2 connections have no name"},
				{Rule: "connection-limit", Severity: SeverityCritical, Subject: "mail", Message: "33 connections where 20 are allowed", Remedy: "share connections between queues: createClient, 100% safe for client and subscriber"},
				{Rule: "idle-polling", Severity: SeverityWarning, Message: "queues poll while idle, 51.5 million commands a month", File: "src/queues/mail.ts", Line: 12, Column: 5, Remedy: "raise drainDelay", Fix: &Fix{"add drainDelay", []Edit{{"src/queues/mail.ts", 12, 7, 12, 7, " settings: { drainDelay: 300 },"}}}},
				{Rule: "idle-polling", Severity: SeverityWarning, Message: "queues poll while idle, 51.5 million commands a month", File: "src/queues/mail.ts", Line: 40},
			},
			Checks: []Check{
				{Group: "connections", Name: "at most 20", Verdict: Fail, Message: "got 33"},
				{Group: "connections", Name: "no unknown client", Verdict: Pass},
				{Name: "p99 below 50 ms", Verdict: Inconclusive, Message: "12 samples where 100 are needed"},
			},
			Notes: []string{"a month is 30 days"},
		},
		"gate":  verdicts(),
		"empty": {Kind: "example.empty/v1"},
	}
}

func TestGoldenFilePerKindAndFormat(t *testing.T) {
	for name, doc := range examples() {
		for _, f := range Formats() {
			t.Run(name+" as "+string(f), func(t *testing.T) {
				got := render(t, f, doc, WriteOptions{Now: fixedTime(), Version: "v1.2.3"})
				golden(t, name+"."+string(f), got)
			})
		}
	}
	t.Run("audit in a wide terminal with colour", func(t *testing.T) {
		got := render(t, FormatTable, examples()["audit"], WriteOptions{Width: 120, Color: true})
		golden(t, "audit.color", got)
	})
	t.Run("audit in a narrow terminal", func(t *testing.T) {
		got := render(t, FormatTable, examples()["audit"], WriteOptions{Width: 40})
		golden(t, "audit.narrow", got)
	})
}

func render(tb testing.TB, f Format, doc Document, opts WriteOptions) string {
	tb.Helper()
	var out bytes.Buffer
	if err := Write(&out, f, doc, opts); err != nil {
		tb.Fatalf("Write: %v", err)
	}
	return out.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; run the test with -update", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got), if the change is meant run with -update:\n%s", file, diff)
	}
}

func TestTheTableFitsTheWidth(t *testing.T) {
	for _, columns := range []int{40, 60, 80, 100} {
		out := render(t, FormatTable, examples()["audit"], WriteOptions{Width: columns})
		for line := range strings.Lines(out) {
			if w := width(strings.TrimSuffix(line, "\n")); w > columns {
				t.Errorf("at width %d a line has %d columns: %q", columns, w, line)
			}
		}
	}
}

func TestTheTableHasNoColourAndNoForeignControlCharacters(t *testing.T) {
	out := render(t, FormatTable, examples()["audit"], WriteOptions{})
	if strings.ContainsRune(out, '\x1b') {
		t.Errorf("table without colour has an escape character:\n%q", out)
	}
	if want := `evil\x1b[31m|queue`; !strings.Contains(out, want) {
		t.Errorf("table does not show %s:\n%s", want, out)
	}
}

func TestAnUnknownFormatIsRefusedWhileFlagsAreParsed(t *testing.T) {
	var f Format
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.VarP(&f, "output", "o", "")
	err := flags.Parse([]string{"-o", "yaml"})
	want := `invalid argument "yaml" for "-o, --output" flag: want one of table, json, markdown, junit, sarif, github, gitlab`
	if err == nil || err.Error() != want {
		t.Errorf("Parse = %v, want %s", err, want)
	}
	if err := flags.Parse([]string{"-o", "sarif"}); err != nil || f != FormatSARIF {
		t.Errorf("Parse(sarif) = %v, format %q", err, f)
	}
}

func TestJSONHasListsForNilSlicesAndTimesInUTC(t *testing.T) {
	out := render(t, FormatJSON, examples()["audit"], WriteOptions{})
	var got struct {
		Kind string
		Data map[string]any
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"at": "2026-03-04T04:06:07Z", "total": 33.0,
		"queues": []any{
			map[string]any{"name": "mail", "connections": 3.0, "peers": []any{"10.0.0.7:5123"}},
			map[string]any{"name": "a<b>&c", "connections": 30.0, "peers": []any{}},
		},
		"unknown": []any{}, "labels": map[string]any{}, "plan": nil,
	}
	if diff := cmp.Diff(want, got.Data); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
}

func TestPrintingDoesNotChangeTheData(t *testing.T) {
	data := exampleData{At: fixedTime(), Queues: []exampleQueue{{Name: "mail"}}}
	render(t, FormatJSON, Document{Kind: "k/v1", Data: &data}, WriteOptions{})
	if data.Queues[0].Peers != nil || data.Unknown != nil || data.At.Location() == time.UTC {
		t.Errorf("data changed to %+v", data)
	}
}

type cyclic struct {
	Next *cyclic `json:"next"`
}

type embedding struct {
	exampleQueue
	Exported exampleQueue `json:"exported"`
}

func TestBadDocumentsAreRefusedAndPrintNothing(t *testing.T) {
	loop := &cyclic{}
	loop.Next = loop
	type camel struct {
		QueueName string `json:"queueName"`
	}
	type untagged struct{ Name string }
	cases := []struct {
		name string
		doc  Document
		want string
	}{
		{"a document without kind", Document{}, "has no kind"},
		{"a field in camel case", Document{Kind: "k/v1", Data: camel{}}, `"queueName", want snake_case`},
		{"a field in camel case deep inside", Document{Kind: "k/v1", Data: []any{map[string]any{"a": &camel{}}}}, "snake_case"},
		{"a field without a name", Document{Kind: "k/v1", Data: untagged{}}, "field Name"},
		{"data that contains itself", Document{Kind: "k/v1", Data: loop}, "nested deeper"},
		{"a channel", Document{Kind: "k/v1", Data: map[string]any{"c": make(chan int)}}, "unsupported type"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			err := Write(&out, FormatJSON, c.doc, WriteOptions{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Write = %v, want an error with %q", err, c.want)
			}
			if out.Len() > 0 {
				t.Errorf("Write printed %q", out.String())
			}
		})
	}
	if err := Write(io.Discard, "yaml", Document{Kind: "k/v1"}, WriteOptions{}); err == nil {
		t.Error("Write in an unknown format succeeded")
	}
}

func TestEmbeddedStructsAndNilInterfacesPrint(t *testing.T) {
	data := map[string]any{"none": nil, "both": embedding{exampleQueue: exampleQueue{Name: "mail"}}}
	out := render(t, FormatJSON, Document{Kind: "k/v1", Data: data}, WriteOptions{})
	want := `{"kind":"k/v1","data":{"both":{"name":"mail","connections":0,"peers":null,"exported":{"name":"","connections":0,"peers":[]}},"none":null}}`
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(out)); err != nil {
		t.Fatal(err)
	}
	if got := compact.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAStreamIsOneObjectPerLine(t *testing.T) {
	var out bytes.Buffer
	s := NewStream(&out, FormatJSON, WriteOptions{})
	for range 3 {
		if err := s.Write(examples()["audit"]); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 3 {
		t.Fatalf("got %d lines, want 3", len(lines))
	}
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

func TestAStreamOfTablesIsSetApartByEmptyLines(t *testing.T) {
	var out bytes.Buffer
	s := NewStream(&out, FormatTable, WriteOptions{})
	doc := Document{Kind: "k/v1", Title: "one"}
	if err := errors.Join(s.Write(doc), s.Write(doc)); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "one\n\none\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestAWriterThatFailsIsReported(t *testing.T) {
	doc := examples()["audit"]
	for _, f := range Formats() {
		if err := Write(brokenPipe{}, f, doc, WriteOptions{}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Write as %s = %v, want the writer's error", f, err)
		}
	}
	if err := NewStream(brokenPipe{}, FormatJSON, WriteOptions{}).Write(doc); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Stream.Write = %v, want the writer's error", err)
	}
	if err := WriteError(brokenPipe{}, Error{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("WriteError = %v, want the writer's error", err)
	}
}

func TestAnErrorIsOneDocumentOnOneLine(t *testing.T) {
	var out bytes.Buffer
	if err := WriteError(&out, Error{Code: "usage", Message: "two\nlines", ExitCode: 2}); err != nil {
		t.Fatal(err)
	}
	want := `{"kind":"error/v1","data":{"code":"usage","message":"two\nlines","hint":"","exit_code":2}}` + "\n"
	if got := out.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
