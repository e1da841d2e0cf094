package embedded_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/embedded"
)

// peer runs a script of testdata with the real Node libraries and returns what it prints.
func peer(t *testing.T, script string, args ...string) (string, error) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("needs node on PATH")
	}
	modules, err := filepath.Abs("../../../testdata/peers/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(modules); err != nil {
		t.Skip("needs the Node libraries of testdata/peers (npm ci)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, append([]string{filepath.Join("testdata", script)}, args...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if errs.Len() > 0 {
		t.Logf("%s: %s", script, errs.String())
	}
	return out.String(), err
}

// TestRealLibrariesRunOnIt lets the unmodified libraries add and work off jobs, with delays, priorities
// and retries: their scripts are larger than any of ours and call what miniredis alone has not.
func TestRealLibrariesRunOnIt(t *testing.T) {
	for _, library := range []string{"bull", "bullmq5", "bullmq6"} {
		t.Run(library, func(t *testing.T) {
			s := start(t, embedded.Options{})
			_, port, err := net.SplitHostPort(s.Addr())
			if err != nil {
				t.Fatal(err)
			}
			script := "bullmq.js"
			if library == "bull" {
				script = "bull.js"
			}
			out, err := peer(t, script, port, "40", library)
			if err != nil {
				t.Fatalf("%s: %v", script, err)
			}
			var got struct {
				Runs   map[string]int `json:"runs"`
				Counts map[string]int `json:"counts"`
			}
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatalf("%s printed %q: %v", script, out, err)
			}
			left := got.Counts["waiting"] + got.Counts["active"] + got.Counts["failed"] + got.Counts["prioritized"]
			if len(got.Runs) != 40 || got.Counts["completed"] != 40 || left != 0 {
				t.Errorf("%d jobs ran, counts %v; want 40, all completed", len(got.Runs), got.Counts)
			}
			for n, runs := range got.Runs {
				want := 1
				if strings.HasSuffix(n, "3") {
					want = 2 // fails once
				}
				if runs != want {
					t.Errorf("job %s ran %d times, want %d", n, runs, want)
				}
			}
		})
	}
}
