package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
)

func TestVersionLooksAsRecordedInEveryFormat(t *testing.T) {
	doc := versionDocument(versionData{
		Version: "v1.2.3", Commit: "0123456789abcdef", Built: "2026-03-04T05:06:07Z", Modified: true,
		GoVersion: "go1.26.0", OS: "linux", Arch: "arm64",
	})
	for _, format := range report.Formats() {
		t.Run(string(format), func(t *testing.T) {
			var out bytes.Buffer
			opts := report.WriteOptions{Now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Version: "v1.2.3"}
			if err := report.Write(&out, format, doc, opts); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "golden", "version."+string(format))
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
		})
	}
}
