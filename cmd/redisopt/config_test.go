package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/config"
)

// loadConfig loads file in an environment of one warning and one mistake.
func loadConfig(file string) (*config.Config, error) {
	env := map[string]string{"REDIS_HOST": "eu1-x.upstash.io", "REDIS_PASSWORD": "pl4nted", "REDIS_PORT": "70000"}
	return config.Load(config.Sources{
		Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		ReadFile: func(name string) ([]byte, error) {
			if name != config.DefaultFile {
				return nil, fs.ErrNotExist
			}
			return []byte(file), nil
		},
		Need: config.Need{Token: true},
	})
}

func TestConfigDocumentsLookAsRecordedInEveryFormat(t *testing.T) {
	conf, err := loadConfig("cache:\n  max_ttl: 2h\n  default_tll: 1h\n")
	for name, doc := range map[string]report.Document{
		"config.check": checkDocument(config.DefaultFile, config.Problems(err), conf.Warnings()),
		"config.show":  showDocument(config.DefaultFile, conf, true),
		"config.init":  initDocument(initData{File: config.DefaultFile, Profile: "catchup", SizeBytes: 5000, Replaces: true, Written: true}),
	} {
		for _, format := range report.Formats() {
			t.Run(name+" as "+string(format), func(t *testing.T) {
				var out bytes.Buffer
				opts := report.WriteOptions{Width: 80, Now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Version: "v0.0.0"}
				if err := report.Write(&out, format, doc, opts); err != nil {
					t.Fatal(err)
				}
				if bytes.Contains(out.Bytes(), []byte("pl4nted")) {
					t.Error("a secret is printed")
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
			})
		}
	}
}

func TestConfigCommandsEndWithTheirExitCode(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("good.yaml", "version: 1\n")
	write("bad.yaml", "nonsense: 1\n")
	for _, x := range []struct {
		name string
		args []string
		want int
	}{
		{"nothing is wrong", []string{"config", "check", "--config", "good.yaml"}, 0},
		{"something is", []string{"config", "check", "--config", "bad.yaml"}, 2},
		{"the file is missing", []string{"config", "check", "--config", "gone.yaml"}, 2},
		{"it is not enough", []string{"config", "check", "--need", "queues"}, 2},
		{"showing what is well", []string{"config", "show", "--config", "good.yaml"}, 0},
		{"showing what is not", []string{"config", "show", "--config", "bad.yaml"}, 2},
		{"a new file", []string{"config", "init"}, 0},
		{"over another one, with nobody to ask", []string{"config", "init"}, 2},
		{"over another one, as told", []string{"config", "init", "--yes"}, 0},
		{"only a dry run", []string{"config", "init", "--dry-run"}, 0},
		{"an unknown profile", []string{"config", "init", "--profile", "x"}, 2},
		{"no directory to write to", []string{"config", "init", "--config", "no/where.yaml"}, 2},
		{"a password on the command line", []string{"config", "show", "--redis-url", "redis://:p@h"}, 2},
		{"the schema", []string{"config", "schema"}, 0},
		{"no such command", []string{"config", "edit"}, 2},
	} {
		var got recorder
		if code := run(t.Context(), x.args, got.streams()); code != x.want {
			t.Errorf("%s: exit code = %d, want %d\n%s", x.name, code, x.want, got.err.String())
		}
	}
}
