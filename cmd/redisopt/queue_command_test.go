package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
)

// jobQueue is a queue of the capture with jobs in every state.
const jobQueue = "suggestion-generation"

func TestADryRunOfAQueueCommandSendsOnlyReads(t *testing.T) {
	o := newOperator(t)
	may := append(readCommands(), "zrevrange", "lpos", "hmget", "ping")
	for _, args := range [][]string{
		{"queue", "retry", jobQueue},
		{"queue", "retry", jobQueue, "7", "8", "none"},
		{"queue", "delete", jobQueue, "--state", "all", "--filter", "age>1s,data.n!=x"},
		{"queue", "drain", jobQueue, "--delayed"},
		{"queue", "pause", jobQueue},
		{"queue", "resume", "calendar-sync"},
		{"queue", "enqueue", jobQueue, "send", "--id", "own", "--unique", "ann"},
		{"queue", "dead", jobQueue, "--retry"},
		{"queue", "dead", jobQueue, "--delete"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			was := world(t, o.client)
			if err := o.client.ConfigResetStat(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			code, _, errs := o.types(append(args, "--dry-run")...)
			if code != 0 && (code != exitBlocked || !strings.Contains(strings.Join(args, " "), "none")) {
				t.Errorf("exit %d\n%s", code, errs)
			}
			stats := o.client.Info(t.Context(), "commandstats").Val()
			for line := range strings.Lines(stats) {
				command, _, found := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
				if found && !slices.Contains(may, command) {
					t.Errorf("it sent %s", command)
				}
			}
			contains(t, errs, ", 0 writes")
			if diff := capture.Compare(was, world(t, o.client)); len(diff) > 0 {
				t.Errorf("it changed:\n%v", diff)
			}
		})
	}
}

func TestQueueCommandsExitWithTheCause(t *testing.T) {
	o := newOperator(t)
	if err := o.client.Do(t.Context(), "ACL", "SETUSER", "reader", "on", ">pw", "~*", "&*", "+@read", "+@connection").Err(); err != nil {
		t.Fatal(err)
	}
	reader := o
	reader.url = strings.Replace(o.url, "redis://", "redis://reader:pw@", 1)
	down := o
	down.url = "redis://127.0.0.1:9"
	for _, c := range []struct {
		name string
		who  operator
		want int
		args []string
		says string
	}{
		{"an unknown queue", o, exitUsage, []string{"queue", "jobs", "none"}, "redisopt queue ls"},
		{"a filter that is none", o, exitUsage, []string{"queue", "jobs", jobQueue, "--filter", "x"}, "no operator"},
		{"nobody to ask", o, exitUsage, []string{"queue", "retry", jobQueue}, "--yes"},
		{"delete of everything by mistake", o, exitUsage, []string{"queue", "delete", jobQueue, "--yes"}, "say which jobs"},
		{"a payload that is no JSON", o, exitUsage, []string{"queue", "enqueue", jobQueue, "send", "--data", "{", "--yes"}, "want JSON"},
		{"a payload in a file that is not there", o, exitUsage, []string{"queue", "enqueue", jobQueue, "send", "--data", "@none", "--yes"}, "none"},
		{"an unknown layout", o, exitUsage, []string{"queue", "enqueue", "new", "--layout", "celery", "--yes"}, "want bull, bullmq5"},
		{"a layout that the queue has not", o, exitUsage, []string{"queue", "enqueue", jobQueue, "send", "--layout", "bullmq6", "--yes"}, "in the layout of bull 4"},
		{"contradictions", o, exitUsage, []string{"queue", "dead", jobQueue, "--retry", "--delete", "--yes"}, "contradict"},
		{"a job that is not there", o, exitBlocked, []string{"queue", "retry", jobQueue, "none", "--yes"}, "is not there in these states"},
		{"an id that is taken", o, exitBlocked, []string{"queue", "enqueue", jobQueue, "send", "--id", "7", "--yes"}, "there is a job"},
		{"more than may be spent", o, exitViolated, []string{"queue", "export", jobQueue, "--max-commands", "30"}, "--max-commands allows 30"},
		{"a queue that does not empty", o, exitBlocked, []string{"queue", "drain", jobQueue, "--wait", "--for", "0s"}, "still there"},
		{"a user who may only read", reader, exitDenied, []string{"queue", "retry", jobQueue, "--yes"}, "rights"},
		{"a server that is down", down, exitUnreachable, []string{"queue", "jobs", jobQueue}, "check host and port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			was := world(t, o.client)
			contains(t, c.who.wants(c.want, c.args...), c.says)
			if diff := capture.Compare(was, world(t, o.client)); len(diff) > 0 {
				t.Errorf("it changed:\n%v", diff)
			}
		})
	}
}

func TestAnInterruptedRetrySaysWhatWasDoneAndGoesOnWhenItIsRunAgain(t *testing.T) {
	o := newOperator(t)
	ctx, client := t.Context(), o.client
	if err := client.Eval(ctx, `for i = 1, 3000 do redis.call('HSET', KEYS[1] .. i, 'name', 'n', 'data', '{}', 'opts', '{}', 'timestamp', '1', 'failedReason', 'x')
redis.call('ZADD', KEYS[2], i, i) end return 1`, []string{"bull:big:", "bull:big:failed"}).Err(); err != nil {
		t.Fatal(err)
	}
	stopped, cancel := context.WithCancelCause(ctx)
	var r recorder
	s := r.streams()
	s.env = func(name string) (string, bool) {
		if name == "REDIS_URL" {
			return o.url, true
		}
		return "", false
	}
	s.err = &trigger{recorder: &r, word: "retry: 3000 jobs", pull: func() { cancel(errInterrupted) }}
	if code := run(stopped, []string{"queue", "retry", "big", "--yes"}, s); code != exitInterrupted {
		t.Errorf("exit %d, want %d\n%s", code, exitInterrupted, r.err.String())
	}
	contains(t, r.err.String(), "run the same command again to go on")
	o.wants(0, "queue", "retry", "big", "--yes")
	if failed, waiting := client.ZCard(ctx, "bull:big:failed").Val(), client.LLen(ctx, "bull:big:wait").Val(); failed != 0 || waiting != 3000 {
		t.Errorf("%d failed and %d waiting, want 0 and 3000", failed, waiting)
	}
}

func TestAnExportHasEveryJobWithEveryField(t *testing.T) {
	o := newOperator(t)
	file := filepath.Join(t.TempDir(), "all.ndjson")
	o.wants(0, "queue", "export", jobQueue, "--out", file)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v, want it for its owner alone", info, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	jobs := 0
	for line := range strings.Lines(string(text)) {
		var doc struct {
			Kind string `json:"kind"`
			Data struct {
				ID     string            `json:"id"`
				Fields map[string]string `json:"fields"`
			} `json:"data"`
		}
		if err := json.Unmarshal([]byte(line), &doc); err != nil || doc.Kind != "queue.job/v1" {
			t.Fatalf("line %q: %v", line, err)
		}
		jobs++
		fields := o.client.HGetAll(t.Context(), "bull:"+jobQueue+":"+doc.Data.ID).Val()
		for name, value := range fields {
			if doc.Data.Fields[name] != value {
				t.Errorf("job %s: %s is %q, want %q", doc.Data.ID, name, doc.Data.Fields[name], value)
			}
		}
	}
	if jobs != 30 {
		t.Errorf("%d jobs, want 30", jobs)
	}
	left, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(left) != 1 {
		t.Errorf("the directory has %v, %v", left, err)
	}
}
