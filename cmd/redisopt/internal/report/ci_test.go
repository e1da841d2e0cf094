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

func TestFixesAreOfferedOnlyWhereEveryEditHasItsPlace(t *testing.T) {
	edit := func(file string, line, column int) Edit {
		return Edit{File: file, Line: line, Column: column, EndLine: line, EndColumn: column + 2, Text: "x"}
	}
	exact := Finding{Rule: "r", Message: "m", File: "a b/c.ts", Line: 3, Fix: &Fix{
		Description: "share it", Edits: []Edit{edit("a b/c.ts", 3, 5), edit("d.ts", 1, 1), edit("a b/c.ts", 9, 1)},
	}}
	for name, f := range map[string]Finding{
		"a remedy in words":        {Rule: "r", Message: "m", File: "c.ts", Remedy: "do it"},
		"no edits":                 {Rule: "r", Fix: &Fix{}},
		"an edit without a column": {Rule: "r", Fix: &Fix{Edits: []Edit{edit("a.ts", 3, 5), edit("a.ts", 3, 0)}}},
	} {
		if got := sarifFixes(f); got != nil {
			t.Errorf("sarifFixes(%s) = %v, want none", name, got)
		}
	}
	fixes := sarifFixes(exact)
	if len(fixes) != 1 || len(fixes[0].Changes) != 2 || fixes[0].Description.Text != "share it" {
		t.Fatalf("sarifFixes = %+v, want one of two files", fixes)
	}
	first := fixes[0].Changes[0]
	if first.Artifact.URI != "a%20b/c.ts" || len(first.Replacements) != 2 || first.Replacements[0].Deleted != (sarifRegion{3, 5, 3, 7}) {
		t.Errorf("changes of the first file = %+v", first)
	}
}

func TestALineThatMovesKeepsItsFingerprint(t *testing.T) {
	first, second := Finding{Rule: "r", File: "a.ts", Line: 3, Anchor: "new Worker('a')"}, Finding{Rule: "r", File: "a.ts", Line: 5, Anchor: "new Worker('b')"}
	before := fingerprints("k/v1", []Finding{first, second})
	second.Line = 2
	if after := fingerprints("k/v1", []Finding{second}); after[0] != before[1] {
		t.Error("without the one before it, a finding has another fingerprint")
	}
}

func TestACheckThatFailsIsAnnotatedOnItsLine(t *testing.T) {
	doc := verdicts()
	out := render(t, FormatGitHub, doc, WriteOptions{})
	want := "::error file=src/mail.ts,line=12,col=3,title=budget-connections::connections: fleet: 35 of 33, 2 more than main. Remedy: share the connection\n"
	if !strings.HasPrefix(out, want) {
		t.Errorf("got %s, want first %s", out, want)
	}
	if strings.Contains(out, "waived one") {
		t.Errorf("what is waived is annotated: %s", out)
	}
	if !strings.HasSuffix(out, "::notice title=k/v1::1 critical, 2 warnings, 1 note\n") {
		t.Errorf("the summary is wrong: %s", out)
	}
}

func TestACommentBeginsWithItsMarkerAndStaysWithinTheLimit(t *testing.T) {
	doc := verdicts()
	out := render(t, FormatMarkdown, doc, WriteOptions{})
	if !strings.HasPrefix(out, "<!-- redisopt:gate  x -->\n## Gate\n") {
		t.Errorf("got %q, want the marker first", out)
	}
	if fail, pass := strings.Index(out, "fail"), strings.Index(out, "<details>"); fail < 0 || pass < fail {
		t.Errorf("the worst is not first: %s", out)
	}
	long := strings.Repeat("日本語 ", 90)
	for i := range 300 {
		doc.Checks = append(doc.Checks, Check{Name: fmt.Sprint(i), Message: long, Verdict: Fail, Remedy: long})
		doc.Findings = append(doc.Findings, Finding{Rule: "r", Message: long, Remedy: long})
	}
	out = render(t, FormatMarkdown, doc, WriteOptions{})
	if len(out) > 65_000 || !strings.Contains(out, "more budgets: -o json lists all") {
		t.Errorf("%d bytes, want fewer than 65,000 and how many are left out", len(out))
	}
	doc.Title = strings.Repeat("x ", 40_000)
	if out = render(t, FormatMarkdown, doc, WriteOptions{}); len(out) > 65_000 || !strings.HasSuffix(out, "-o json has the whole.\n") {
		t.Errorf("%d bytes, want fewer than 65,000 and that it is shortened", len(out))
	}
}

// verdicts is a document whose checks are the answer.
func verdicts() Document {
	return Document{
		Kind: "k/v1", Title: "Gate", Verdicts: true, Marker: "redisopt:gate --> x",
		Checks: []Check{
			{Group: "commands", Name: "month", Verdict: Pass, Message: "10 of 100"},
			{Group: "connections", Name: "waived one", Verdict: Waived, Message: "until 2026-12-31, says the mail team"},
			{Group: "latency", Name: "cache", Verdict: Inconclusive, Message: "no benchmark"},
			{Group: "commands", Name: "idle", Verdict: Warn, Message: "85 of 100"},
			{Group: "connections", Name: "fleet", Verdict: Fail, Message: "35 of 33, 2 more than main", Rule: "budget-connections", Remedy: "share the connection", File: "src/mail.ts", Line: 12, Column: 3},
		},
		Findings: []Finding{{Rule: "finished-jobs-kept", Severity: SeverityNote, Message: "kept for ever", File: "src/mail.ts", Line: 12}},
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
			Findings: []Finding{{Rule: name, Subject: text, Message: text, Remedy: text, File: name, Line: 3, Fix: &Fix{text, []Edit{{name, 1, 1, 2, 1, text}}}}},
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
		strings.Replace(text, `"endColumn": 7`, `"endColumn": 0`, 1),
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
