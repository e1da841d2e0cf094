package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
)

// wantGolden compares doc with testdata/golden/NAME.FORMAT, at a fixed width, clock and version; with
// -update it writes the file first. A table must fit 80 columns.
func wantGolden(t *testing.T, name string, format report.Format, doc report.Document) {
	t.Helper()
	var out bytes.Buffer
	opts := report.WriteOptions{Width: 80, Now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Version: "v0.0.0"}
	if err := report.Write(&out, format, doc, opts); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "golden", name+"."+string(format))
	if *updateScripts {
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
	if format != report.FormatTable {
		return
	}
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}
