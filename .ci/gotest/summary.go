package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

// An event is one line of go test -json, as far as it is used.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

// A skip is one test that did not run.
type skip struct{ test, reason string }

// A summary follows the events of a run: it prints a line per package and the output of what failed,
// and counts tests without subtests.
type summary struct {
	out            io.Writer
	passed, failed int
	skips          []skip

	lines   map[string][]string // output of tests and packages still running, by name
	parents map[string]bool     // tests that have subtests
	fails   map[string]int      // failed tests of a package
	said    *regexp.Regexp      // a line that a test wrote with its place
}

func newSummary(out io.Writer) *summary {
	return &summary{
		out:     out,
		lines:   map[string][]string{},
		parents: map[string]bool{},
		fails:   map[string]int{},
		said:    regexp.MustCompile(`^\s+\S+\.go:\d+: (.*)`),
	}
}

func (s *summary) read(events io.Reader) error {
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			s.line(line)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read go test: %w", err)
		}
	}
}

func (s *summary) line(line string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil {
		_, _ = io.WriteString(s.out, line) // what is not an event is for people
		return
	}
	name := e.Package + "\x00" + e.Test
	switch e.Action {
	case "build-output":
		_, _ = io.WriteString(s.out, e.Output)
	case "run":
		if i := strings.LastIndex(name, "/"); i > strings.IndexByte(name, 0) {
			s.parents[name[:i]] = true
		}
	case "output":
		s.lines[name] = append(s.lines[name], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(e, s.lines[name])
		} else {
			s.endTest(e, name)
		}
		delete(s.lines, name)
	}
}

func (s *summary) endTest(e event, name string) {
	if e.Action == "fail" {
		for _, line := range s.lines[name] {
			if !strings.HasPrefix(line, "=== ") {
				_, _ = io.WriteString(s.out, line)
			}
		}
	}
	if s.parents[name] {
		return
	}
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
		s.fails[e.Package]++
	case "skip":
		s.skips = append(s.skips, skip{e.Package + " " + e.Test, s.reason(s.lines[name])})
	}
}

// reason is the last thing a skipped test said.
func (s *summary) reason(lines []string) string {
	for _, line := range slices.Backward(lines) {
		if m := s.said.FindStringSubmatch(line); m != nil {
			return m[1]
		}
	}
	return "no reason given"
}

func (s *summary) endPackage(e event, lines []string) {
	switch e.Action {
	case "pass":
		_, _ = fmt.Fprintf(s.out, "ok    %s %.1fs\n", e.Package, e.Elapsed)
	case "fail":
		s.flush(e.Package)
		if s.fails[e.Package] == 0 {
			s.failed++ // it did not compile, or ended before a test did
		}
		for _, line := range lines {
			_, _ = io.WriteString(s.out, line)
		}
		if len(lines) == 0 || !strings.HasPrefix(lines[len(lines)-1], "FAIL") {
			_, _ = fmt.Fprintf(s.out, "FAIL  %s\n", e.Package)
		}
	}
}

// flush prints what tests of a package said that never ended.
func (s *summary) flush(pkg string) {
	for name, lines := range s.lines {
		if test, ok := strings.CutPrefix(name, pkg+"\x00"); ok && test != "" {
			_, _ = io.WriteString(s.out, strings.Join(lines, ""))
			delete(s.lines, name)
		}
	}
}

// print lists the skips and ends with the counts.
func (s *summary) print(strict bool) {
	if len(s.skips) > 0 {
		_, _ = fmt.Fprintln(s.out, "\nSkipped:")
		for _, k := range s.skips {
			_, _ = fmt.Fprintf(s.out, "  %s: %s\n", k.test, k.reason)
		}
		if strict {
			_, _ = fmt.Fprintln(s.out, "With CI=true a skipped test is a failure.")
		}
	}
	_, _ = fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, len(s.skips))
}

func (s *summary) appendTo(name string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	if _, err := fmt.Fprintln(f, s.passed, s.failed, len(s.skips)); err != nil {
		_ = f.Close()
		return fmt.Errorf("write the summary: %w", err)
	}
	return f.Close()
}
