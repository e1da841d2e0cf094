package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redisopt/redisopt/internal/inspect/record"
)

// peers is the directory of the Node peers, and quotes what a shell needs for it.
func peers(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("needs node on PATH")
	}
	dir, err := filepath.Abs("../../testdata/peers")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "ioredis")); err != nil {
		t.Skip("needs the Node peers: run make deps")
	}
	return dir
}

func tests(r *record.Report) map[string]record.Test {
	all := map[string]record.Test{}
	for _, t := range r.Tests {
		all[t.Name] = t
	}
	return all
}

func TestEveryTestOfNodeIsChargedWhatItSent(t *testing.T) {
	dir := peers(t)
	doc, stderr := recordHere(t, 0, nil, "cd '"+dir+"' && REDISOPT_SOURCE=suite node --import ./record-hooks.mjs --test record-tests.mjs")
	got := tests(doc)
	for name, want := range map[string][3]int64{"reads three users": {3, 0, 3}, "counts an order": {1, 2, 3}, "reads over HTTP": {2, 0, 2}} {
		found := false
		for have, c := range got {
			if strings.HasSuffix(have, name) {
				found = true
				if c.Work-c.InScript != want[0] || c.InScript != want[1] || c.BilledWork != want[2] || c.Runs != 1 || c.MaxPerRun != want[2] {
					t.Errorf("%s: %+v, want %v of work, in scripts and billed", name, c, want)
				}
			}
		}
		if !found {
			t.Errorf("no test %q in %v\n%s", name, got, stderr)
		}
	}
	if doc.Connections.Opened != 1 || doc.Connections.HTTPRequests != 2 {
		t.Errorf("connections %+v, want one and 2 requests: marks are no connection of the application", doc.Connections)
	}
	if len(doc.Sources) != 1 || doc.Sources[0].Name != "suite" || doc.Sources[0].Named != "environment" {
		t.Errorf("sources %+v, want suite", doc.Sources)
	}
	if doc.Clients[0].Library != "ioredis" {
		t.Errorf("clients %+v, want ioredis first", doc.Clients)
	}
}

func TestTwoProcessesOfOneTestRunnerAreToldApart(t *testing.T) {
	dir := peers(t)
	script := `const R=require('ioredis');const r=new R(process.env.REDIS_URL);(async()=>{for(let i=0;i<%d;i++)await r.get('a');await r.quit()})()`
	one, two := fmt.Sprintf(script, 2), fmt.Sprintf(script, 5)
	doc, _ := recordHere(t, 0, nil, "cd '"+dir+"'; REDISOPT_TEST=one node -e \""+one+"\" & REDISOPT_TEST=two node -e \""+two+"\"; wait")
	got := tests(doc)
	if got["one"].BilledWork != 2 || got["two"].BilledWork != 5 {
		t.Errorf("got %+v, want 2 and 5 commands", got)
	}
	if doc.Connections.Processes != 2 {
		t.Errorf("%d processes, want 2", doc.Connections.Processes)
	}
}
