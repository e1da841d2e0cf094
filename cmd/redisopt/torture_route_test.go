package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A scene is a migration that is about to begin, and what must be true after it.
type scene struct {
	prepare [][]string // what comes before, undisturbed
	command []string   // what is struck
	journal string     // its list in Redis; empty: it keeps none

	resume, host []string // other ways forward; nil: there is none
	back         []string // the way back; nil when command is the way back

	done string   // what command also says, instead of success, when there was nothing left to do
	live *traffic // goes on meanwhile; nil: none

	there func() reckoning // after it has come to its end
	home  func() reckoning // after the way back
}

// quiet ends the traffic, if there is any.
func (sc scene) quiet() {
	if sc.live != nil {
		sc.live.end()
	}
}

// A route is one kind of migration.
type route struct {
	name              string
	commands, scripts int // that a run sends, about; a run without scripts keeps no journal
	stage             func(tr *trial) scene
}

// routes are all that the program can do to a Redis with other people's data in it.
func routes() []route {
	return []route{
		{"bull to bullmq 5", 420, 42, queueRoute("bull", false, "bullmq", "--engine", "bullmq", "--bullmq-major", "5")},
		{"bullmq 5 back to bull", 380, 46, queueRoute("bull", true, "bullmq", "--engine", "bullmq", "--bullmq-major", "5")},
		{"bull to bullmq 6", 500, 46, queueRoute("bull", false, "bullmq", "--engine", "bullmq", "--bullmq-major", "6")},
		{"bullmq 6 back to bull", 380, 46, queueRoute("bull", true, "bullmq", "--engine", "bullmq", "--bullmq-major", "6")},
		{"bull to asynq", 550, 70, queueRoute("bull", false, "", "--engine", "asynq")},
		{"asynq back to bull", 400, 80, queueRoute("bull", true, "", "--engine", "asynq")},
		{"bullmq 5 to asynq", 550, 70, queueRoute("bullmq", false, "", "--engine", "asynq")},
		{"asynq back to bullmq 5", 500, 80, queueRoute("bullmq", true, "", "--engine", "asynq")},
		{"bullmq 5 to 6", 550, 52, queueRoute("bullmq", false, "bullmq6", "--engine", "bullmq", "--bullmq-major", "6", "--to-prefix", "bullmq6")},
		{"phase 1, ramp", 100, 20, rampRoute(false)},
		{"phase 1, back", 30, 10, rampRoute(true)},
		{"phase 2, pause", 110, 16, pauseRoute(false)},
		{"phase 2, resume", 52, 18, pauseRoute(true)},
		{"phase 4, delete", 230, 200, cleanRoute(false)},
		{"phase 4, restore", 220, 200, cleanRoute(true)},
		{"copy", 1500, 0, copyRoute},
	}
}

// bystanders puts queues beside the one that is moved, which must stay as they are, and returns what tells.
func (tr *trial) bystanders() func(r *reckoning) {
	tr.t.Helper()
	ctx := tr.t.Context()
	for queue, paused := range map[string]bool{"sms": false, "push": true} {
		if err := putBull(ctx, tr.client, queue, makeJobs(tr.rng, 12, false), paused); err != nil {
			tr.t.Fatal(err)
		}
	}
	if err := tr.client.Set(ctx, "cache:user:1", "x", 0).Err(); err != nil {
		tr.t.Fatal(err)
	}
	look := func() []capture.Key {
		return slices.Concat(tr.dump("bull:sms:*"), tr.dump("bull:push:*"), tr.dump("cache:*"))
	}
	before := look()
	return func(r *reckoning) {
		for _, d := range capture.Compare(before, look()) {
			r.add("a queue that is not moved has changed: %s", d)
		}
	}
}

func (tr *trial) dump(match string) []capture.Key {
	tr.t.Helper()
	keys, err := capture.Dump(tr.t.Context(), tr.client, match)
	if err != nil {
		tr.t.Fatal(err)
	}
	return keys
}

// queueRoute moves the queue mail with a job in every state, or with reverse back again.
func queueRoute(from string, reverse bool, to string, flags ...string) func(*trial) scene {
	return func(tr *trial) scene {
		t := tr.t
		unmoved := tr.bystanders()
		jobs := makeJobs(tr.rng, 20+tr.rng.IntN(120), false)
		busy := tr.busy && from == "bull" && !reverse
		if busy { // while a worker is connected, a job without a lock is taken to be its
			jobs = jobs[:len(jobs)-1]
		}
		put := func() error { return putBullMQ(t.Context(), tr.client, "mail", jobs) }
		if from == "bull" {
			put = func() error { return putBull(t.Context(), tr.client, "mail", jobs, false) }
		}
		if err := put(); err != nil {
			t.Fatal(err)
		}
		base := from + ":mail:"
		before := tr.dump(base + "*")
		name := []string{"--queue", "mail", "--prefix", from, "--yes", "-o", "json"}
		tuned := append(slices.Clone(name), "--workers-stopped", "--active-timeout", "-1s")
		var live *traffic
		if busy {
			live = newTraffic(t, tr.server.Addr, "mail")
			tuned = name
		}
		sc := scene{
			command: slices.Concat([]string{"migrate", "phase3"}, tuned, flags),
			resume:  append([]string{"migrate", "resume"}, tuned...),
			host:    []string{"migrate", "run", "--complete", "--yes", "-o", "json"},
			back:    append([]string{"rollback", "phase3"}, tuned...),
			journal: "redisopt:journal:phase3:" + from + ":mail",
			live:    live,
		}
		prefixes := []string{from}
		if to != "" {
			prefixes = append(prefixes, to)
		}
		reckonAt := func(at func(j madeJob, s sighting) bool) reckoning {
			seen, odd, err := lookAt(t.Context(), tr.client, tr.server.Addr, "mail", prefixes...)
			if err != nil {
				t.Fatal(err)
			}
			var met reckoning
			all := jobs
			if live != nil {
				all = live.account(jobs, &met)
			}
			r := reckon(all, seen, at)
			r.doubled += met.doubled
			r.wrong = slices.Concat(r.wrong, met.wrong, odd)
			unmoved(&r)
			return r
		}
		sc.there = func() reckoning {
			return reckonAt(func(j madeJob, s sighting) bool {
				state := j.state
				if state == isActive { // its worker is gone, so it waits for the next one
					state = isWaiting
				}
				if to == "" {
					band := "asynq mail "
					if j.priority > 0 && from == "bull" {
						band = "asynq mail:high "
					} else if j.priority > 0 {
						band = "asynq mail:low "
					}
					if state == isCompleted {
						return s.state == state && strings.HasPrefix(s.where, "asynq mail")
					}
					return s.where == band+state
				}
				return s.state == state && strings.HasPrefix(s.where, to+":mail:")
			})
		}
		sc.home = func() reckoning {
			r := reckonAt(func(j madeJob, s sighting) bool {
				if !strings.HasPrefix(s.where, base) {
					return false
				}
				return s.state == j.state || j.state == isActive && s.state == isWaiting
			})
			if live != nil {
				return r // which has changed much of it
			}
			sameAgain(before, tr.dump(base+"*"), base, &r)
			return r
		}
		if reverse {
			sc.prepare, sc.command, sc.back = [][]string{sc.command}, sc.back, nil
			sc.there, sc.host = sc.home, nil
		}
		return sc
	}
}

// sameAgain tells what a way there and back has changed of a queue's keys, but for what it may: the counter
// covers every id, the job whose worker died waits, and BullMQ is woken.
func sameAgain(before, after []capture.Key, base string, r *reckoning) {
	for _, d := range capture.Compare(before, after) {
		switch strings.TrimPrefix(d.Key, base) {
		case "id", "active", "wait", "marker", "meta", "events":
			continue
		}
		r.add("after the way back, %s", d)
	}
}

// pauseRoute pauses two of three queues, or with reverse lets them go on.
func pauseRoute(reverse bool) func(*trial) scene {
	return func(tr *trial) scene {
		t := tr.t
		all := map[string][]madeJob{}
		for _, queue := range []string{"mail", "report", "billing"} {
			all[queue] = makeJobs(tr.rng, 8+tr.rng.IntN(30), false)
			if err := putBull(t.Context(), tr.client, queue, all[queue], false); err != nil {
				t.Fatal(err)
			}
		}
		before := tr.dump("bull:*")
		config := filepath.Join(tr.dir, "app.yaml")
		if err := os.WriteFile(config, []byte(`version: 1
queues:
  list:
    - name: mail
    - name: report
    - name: billing
      criticality: critical
`), 0o600); err != nil {
			t.Fatal(err)
		}
		flags := []string{"--config", config, "--yes", "-o", "json"}
		catchUp := [][]string{{"--catch-up", "all"}, {"--stage", "300ms"}}[tr.rng.IntN(2)]
		sc := scene{
			command: slices.Concat([]string{"migrate", "phase2", "--soak", "0"}, flags, catchUp),
			resume:  append([]string{"migrate", "resume", "phase2"}, flags...),
			back:    append([]string{"rollback", "phase2"}, flags...),
			journal: "redisopt:journal:{redisopt:phase2}",
		}
		look := func(paused bool) reckoning {
			var out reckoning
			for _, queue := range slices.Sorted(maps.Keys(all)) {
				seen, odd, err := lookAt(t.Context(), tr.client, tr.server.Addr, queue, "bull")
				if err != nil {
					t.Fatal(err)
				}
				container := ":wait"
				if paused && queue != "billing" {
					container = ":paused"
				}
				r := reckon(all[queue], seen, func(j madeJob, s sighting) bool {
					return s.state == j.state && (j.state != isWaiting || strings.HasSuffix(s.where, container))
				})
				out.lost, out.doubled = out.lost+r.lost, out.doubled+r.doubled
				out.wrong = slices.Concat(out.wrong, r.wrong, odd)
				flag, err := tr.client.Exists(t.Context(), "bull:"+queue+":meta-paused").Result()
				if err != nil {
					t.Fatal(err)
				}
				if (flag == 1) != (container == ":paused") {
					out.add("%s: paused: %v, want %v", queue, flag == 1, container == ":paused")
				}
			}
			return out
		}
		sc.there = func() reckoning { return look(true) }
		sc.home = func() reckoning {
			r := look(false)
			for _, d := range capture.Compare(before, tr.dump("bull:*")) {
				r.add("after the way back, %s", d)
			}
			if left := tr.dump("redisopt:phase2:*"); len(left) > 0 {
				r.add("after the way back there is still %s", left[0].Name)
			}
			return r
		}
		if reverse {
			sc.prepare, sc.command, sc.back = [][]string{sc.command}, sc.back, nil
			sc.there = sc.home
		}
		return sc
	}
}

// cleanRoute saves and deletes two queues whose jobs have ended, or with reverse restores them.
func cleanRoute(reverse bool) func(*trial) scene {
	return func(tr *trial) scene {
		t := tr.t
		unmoved := tr.bystanders()
		for _, queue := range []string{"old", "older"} {
			if err := putBull(t.Context(), tr.client, queue, makeJobs(tr.rng, 5+tr.rng.IntN(80), true), false); err != nil {
				t.Fatal(err)
			}
		}
		look := func() []capture.Key { return slices.Concat(tr.dump("bull:old:*"), tr.dump("bull:older:*")) }
		before := look()
		sc := scene{
			command: []string{"migrate", "phase4", "--confirm-prefix", "bull:old:", "--confirm-prefix", "bull:older:", "--yes", "-o", "json"},
			resume:  []string{"migrate", "resume", "phase4", "--yes", "-o", "json"},
			back:    []string{"rollback", "phase4", "--yes", "-o", "json"},
			journal: "redisopt:journal:{redisopt:phase4}",
		}
		sc.there = func() reckoning {
			var r reckoning
			for _, k := range look() {
				r.add("%s was not deleted", k.Name)
			}
			unmoved(&r)
			return r
		}
		sc.home = func() reckoning {
			var r reckoning
			for _, d := range capture.Compare(before, look()) {
				r.lost++
				r.add("after the way back, %s", d)
			}
			unmoved(&r)
			return r
		}
		if reverse {
			sc.prepare, sc.command, sc.back = [][]string{sc.command}, sc.back, nil
			sc.there = sc.home
		}
		return sc
	}
}

// copyRoute copies everything to another server.
func copyRoute(tr *trial) scene {
	t := tr.t
	tr.bystanders()
	if err := putBull(t.Context(), tr.client, "mail", makeJobs(tr.rng, 50+tr.rng.IntN(300), false), false); err != nil {
		t.Fatal(err)
	}
	tr.other = redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	tr.otherWire = newWire(t, tr.other.Addr)
	client := tr.other.Client(t)
	sc := scene{done: "it has been done", command: []string{"migrate", "copy", "--to", tr.otherWire.url() + "/0", "--yes", "-o", "json"}}
	sc.there = func() reckoning {
		var r reckoning
		copied, err := capture.Dump(context.WithoutCancel(t.Context()), client, "*")
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range capture.Compare(tr.dump("*"), copied) {
			if !strings.HasPrefix(d.Key, "redisopt:") {
				r.lost++
				r.add("the copy differs: %s", d)
			}
		}
		return r
	}
	return sc
}

func (r reckoning) String() string {
	const most = 6
	text := fmt.Sprintf("%d lost, %d doubled, %d things wrong", r.lost, r.doubled, len(r.wrong))
	for i, w := range r.wrong {
		if i == most {
			return text + "\n  …"
		}
		text += "\n  " + w
	}
	return text
}
