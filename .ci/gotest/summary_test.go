package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	cases := []struct {
		name   string
		events string
		want   []string // in this order
		not    string
	}{
		{
			"a passing package is one line, its output is not shown",
			`{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: chatter\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Elapsed":1.25}`,
			[]string{"ok    p 1.2s\n", "1 passed, 0 failed, 0 skipped\n"},
			"chatter",
		},
		{
			"only tests without subtests are counted",
			`{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestA/one"}
{"Action":"pass","Package":"p","Test":"TestA/one"}
{"Action":"run","Package":"p","Test":"TestA/two"}
{"Action":"pass","Package":"p","Test":"TestA/two"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}`,
			[]string{"2 passed, 0 failed, 0 skipped\n"},
			"",
		},
		{
			"a failing test shows what it said",
			`{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}`,
			[]string{"got 1, want 2\n", "FAIL\tp", "0 passed, 1 failed, 0 skipped\n"},
			"=== RUN",
		},
		{
			"a skipped test is listed with its reason",
			`{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: needs redis-server on PATH\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}`,
			[]string{"Skipped:\n", "p TestA: needs redis-server on PATH\n", "0 passed, 0 failed, 1 skipped\n"},
			"",
		},
		{
			"a package that does not compile is a failure, with the compiler's words",
			`{"ImportPath":"p","Action":"build-output","Output":"a.go:1: undefined: x\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p","FailedBuild":"p"}`,
			[]string{"undefined: x\n", "FAIL\tp [build failed]\n", "0 passed, 1 failed, 0 skipped\n"},
			"",
		},
		{
			"a test that never ended shows what it said",
			`{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"panic: stuck\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t9s\n"}
{"Action":"fail","Package":"p"}`,
			[]string{"panic: stuck\n", "FAIL\tp", "0 passed, 1 failed, 0 skipped\n"},
			"",
		},
		{
			"what is no event is passed on",
			"go: downloading something\n",
			[]string{"go: downloading something\n", "0 passed, 0 failed, 0 skipped\n"},
			"",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			s := newSummary(&out)
			if err := s.read(strings.NewReader(c.events)); err != nil {
				t.Fatal(err)
			}
			s.print(false)
			rest := out.String()
			for _, want := range c.want {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Fatalf("output is\n%s\nwant %q in it, in this place", out.String(), want)
				}
				rest = after
			}
			if c.not != "" && strings.Contains(out.String(), c.not) {
				t.Errorf("output is\n%s\nwant no %q in it", out.String(), c.not)
			}
		})
	}
}

func TestSummariesOfSeveralRunsAreAppended(t *testing.T) {
	file := filepath.Join(t.TempDir(), "summary")
	for range 2 {
		s := newSummary(&strings.Builder{})
		s.passed, s.failed, s.skips = 3, 1, []skip{{"p TestA", "no"}}
		if err := s.appendTo(file); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if want := "3 1 1\n3 1 1\n"; err != nil || string(got) != want {
		t.Errorf("file holds %q, %v, want %q", got, err, want)
	}
}
