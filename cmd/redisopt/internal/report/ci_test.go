package report

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func TestGitHubShowsTenOfAKindAndCountsTheRest(t *testing.T) {
	doc := Document{Kind: "k/v1"}
	for i := range 14 {
		doc.Findings = append(doc.Findings,
			Finding{Rule: "n", Severity: SeverityNote, Message: fmt.Sprint(i)},
			Finding{Rule: "c", Severity: SeverityCritical, Message: fmt.Sprint(i)})
	}
	lines := strings.Split(strings.TrimSpace(render(t, FormatGitHub, doc, WriteOptions{})), "\n")
	if len(lines) != 20 {
		t.Fatalf("got %d lines, want 10 errors, 9 notices and a summary:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	if !strings.HasPrefix(lines[0], "::error title=c::0") || !strings.HasPrefix(lines[10], "::notice title=n::0") {
		t.Errorf("worst do not come first: %s … %s", lines[0], lines[10])
	}
	if got, want := lines[19], "::notice title=k/v1::14 critical, 14 notes; 9 not shown here, -o json lists all"; got != want {
		t.Errorf("last line %s, want %s", got, want)
	}
}

func TestSARIFIsValid(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join("testdata", "sarif-subset.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, doc := range examples() {
		out := render(t, FormatSARIF, doc, WriteOptions{})
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(out))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestEveryRuleIndexPointsAtItsRule(t *testing.T) {
	var log sarifLog
	if err := json.Unmarshal([]byte(render(t, FormatSARIF, examples()["audit"], WriteOptions{})), &log); err != nil {
		t.Fatal(err)
	}
	run := log.Runs[0]
	for _, r := range run.Results {
		if got := run.Tool.Driver.Rules[r.RuleIndex].ID; got != r.RuleID {
			t.Errorf("rule %d is %s, the result says %s", r.RuleIndex, got, r.RuleID)
		}
	}
}

func TestFingerprintsAreUniqueAndOutliveNumbersAndLines(t *testing.T) {
	before := []Finding{{Rule: "r", Subject: "mail", Message: "12 clients", Line: 3}, {Rule: "r", Subject: "mail"}, {Rule: "r", Subject: "sms"}}
	after := []Finding{{Rule: "r", Subject: "mail", Message: "15 clients", Line: 9}, {Rule: "r", Subject: "mail"}, {Rule: "r", Subject: "sms"}}
	a, b := fingerprints("k/v1", before), fingerprints("k/v1", after)
	seen := map[string]bool{}
	for i := range a {
		if a[i] != b[i] {
			t.Errorf("fingerprint %d changed with the message", i)
		}
		if seen[a[i]] {
			t.Errorf("fingerprint %d is not unique", i)
		}
		seen[a[i]] = true
	}
}

func TestFixesAreOfferedOnlyWhereTheLineIsKnown(t *testing.T) {
	exact := Finding{Rule: "r", Message: "m", File: "a b/c.ts", Line: 3, Replacement: "x"}
	vague := Finding{Rule: "r", Message: "m", File: "c.ts", Remedy: "do it"}
	if got := sarifFixes(vague); got != nil {
		t.Errorf("sarifFixes(remedy in words) = %v, want none", got)
	}
	fixes := sarifFixes(exact)
	if len(fixes) != 1 || fixes[0].Changes[0].Artifact.URI != "a%20b/c.ts" || fixes[0].Changes[0].Replacements[0].Inserted.Text != "x" {
		t.Errorf("sarifFixes(replacement) = %+v", fixes)
	}
}

func FuzzGitHubCommandsStayOneLine(f *testing.F) {
	f.Add("rule", "file.ts", "message: 100%\r\n::error::injected", "do,this:that")
	f.Add("", "", "", "")
	f.Fuzz(func(t *testing.T, rule, file, message, remedy string) {
		doc := Document{Kind: "k/v1", Findings: []Finding{{Rule: rule, File: file, Line: 1, Message: message, Remedy: remedy, Severity: SeverityCritical}}}
		out := string(renderGitHub(doc))
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		if len(lines) != 2 || strings.ContainsRune(out, '\r') {
			t.Fatalf("got %d lines, want the finding and the summary: %q", len(lines), out)
		}
		head, text, ok := strings.Cut(strings.TrimPrefix(lines[0], "::error "), "::")
		if !ok {
			t.Fatalf("no message in %q", lines[0])
		}
		want := map[string]string{"title": rule}
		if file != "" {
			want["file"], want["line"] = file, "1"
		}
		for property := range strings.SplitSeq(head, ",") {
			name, value, _ := strings.Cut(property, "=")
			if got := unescape(value); got != want[name] {
				t.Errorf("property %s reads back as %q, want %q", name, got, want[name])
			}
			delete(want, name)
		}
		if len(want) > 0 {
			t.Errorf("properties missing: %v", want)
		}
		if got := unescape(text); got != doc.Findings[0].full() {
			t.Errorf("message reads back as %q, want %q", got, doc.Findings[0].full())
		}
	})
}

// unescape is what a runner does with what it reads.
func unescape(s string) string {
	return strings.NewReplacer("%25", "%", "%0D", "\r", "%0A", "\n", "%3A", ":", "%2C", ",").Replace(s)
}

func FuzzEveryFormatSurvivesAnyText(f *testing.F) {
	f.Add("mail", "12 clients", 80)
	f.Add("\x1b[2J\u202e|`<script>", "a\tb\r\nc\x00\xff", 40)
	f.Add("日本語の待ち行列の名前がとても長い場合", "🚀🚀🚀 e\u0301 …", 41)
	f.Fuzz(func(t *testing.T, name, text string, columns int) {
		columns = 40 + abs(columns)%100
		doc := Document{
			Kind: "k/v1", Title: text, Data: map[string]string{"text": text},
			Sections: []Section{{Title: name, Text: text, Fields: []Field{{name, text}}, Table: &Table{
				Columns: []Column{{Name: name}, {Name: text, Elastic: true}, {Name: "n", Right: true}},
				Rows:    [][]string{{name, text, "1"}, {text}, {}},
				Total:   []string{name, text},
			}}},
			Findings: []Finding{{Rule: name, Subject: text, Message: text, Remedy: text, File: name, Line: 3, Replacement: text}},
			Checks:   []Check{{Name: name, Message: text, Verdict: Fail}},
			Notes:    []string{text},
		}
		for _, format := range Formats() {
			checkOutput(t, format, render(t, format, doc, WriteOptions{Width: columns}), columns)
		}
	})
}

func checkOutput(t *testing.T, f Format, out string, columns int) {
	t.Helper()
	switch f {
	case FormatTable:
		for _, r := range out {
			if obeyed(r) {
				t.Errorf("table has the control character %U", r)
			}
		}
		for line := range strings.Lines(out) {
			if w := width(strings.TrimSuffix(line, "\n")); w > columns+2 { // a wide character may overhang
				t.Errorf("line of %d columns in a table of %d: %q", w, columns, line)
			}
		}
	case FormatJSON, FormatSARIF, FormatGitLab:
		if !json.Valid([]byte(out)) {
			t.Errorf("%s is not JSON: %q", f, out)
		}
	case FormatJUnit:
		var v junitSuites
		if err := xml.Unmarshal([]byte(out), &v); err != nil {
			t.Errorf("not XML: %v: %q", err, out)
		}
	case FormatMarkdown:
		if strings.Contains(out, "<script") {
			t.Errorf("markdown lets HTML through: %q", out)
		}
	case FormatGitHub:
	}
}

func abs(n int) int { return max(n, -(n + 1)) }

func TestTheSchemaRefusesABrokenLog(t *testing.T) {
	text := render(t, FormatSARIF, examples()["audit"], WriteOptions{})
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join("testdata", "sarif-subset.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []string{
		strings.Replace(text, `"error"`, `"critical"`, 1),
		strings.Replace(text, `"message"`, `"massage"`, 1),
		strings.Replace(text, `"startLine": 12`, `"startLine": 0`, 1),
	} {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(broken))
		if err != nil {
			t.Fatal(err)
		}
		if broken == text || schema.Validate(value) == nil {
			t.Error("a log that breaks the standard passes")
		}
	}
}
