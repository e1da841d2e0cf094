package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// oneSeed runs one seed of the campaign, as a failure names it.
var oneSeed = flag.Uint64("torture-seed", 0, "of the crash campaign, run only the trial of this seed (0: all)")

// A bout is one trial of the campaign: everything about it follows from its seed.
type bout struct {
	seed   uint64
	route  route
	strike strike
}

func (b bout) String() string { return fmt.Sprintf("seed %d, %s, %s", b.seed, b.route.name, b.strike) }

// TestCrashCampaign strikes the real program, its server and its network in the middle of every kind of
// migration, goes on as an operator would, forwards or back, and then looks for every job with a reader of
// its own. With TORTURE=1 it is the whole campaign, and with -update that writes docs/torture-results.md.
func TestCrashCampaign(t *testing.T) {
	t.Parallel()
	var all scores
	plan, atOnce := sampledBouts(), 2
	switch {
	case tortured():
		plan, atOnce = allBouts(), 6 // much of it is waiting
	case raceEnabled:
		plan = plan[:6] // every run of the program takes several times as long
	}
	began := time.Now()
	turns := make(chan struct{}, atOnce)
	t.Run("bouts", func(t *testing.T) {
		for _, b := range plan {
			if *oneSeed != 0 && b.seed != *oneSeed {
				continue
			}
			t.Run(b.String(), func(t *testing.T) {
				t.Parallel()
				turns <- struct{}{}
				defer func() { <-turns }()
				all.add(b, b.fight(t))
			})
		}
	})
	text := all.markdown(time.Since(began))
	t.Logf("\n%s", text)
	if tortured() && *updateScripts && *oneSeed == 0 {
		if err := os.WriteFile(filepath.Join("..", "..", "docs", "torture-results.md"), []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// sampledBouts are twenty: every route, every kind of strike, every moment of a journal write.
func sampledBouts() []bout {
	var out []bout
	all := routes()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed+1, 1)) //nolint:gosec // reproducible on purpose
		b := bout{seed: seed + 1, route: all[int(seed)%len(all)]}
		switch seed % 5 {
		case 0, 3:
			b.strike = strike{kind: killedAnywhere}
		case 1:
			b.strike = strike{kind: killedAtJournal, write: 1 + rng.IntN(6), moment: journalMoments()[rng.IntN(4)]}
		case 2:
			b.strike = strike{kind: networkCut, cut: cut(rng.IntN(5))}
		case 4:
			b.strike = strike{kind: serverKilled}
		}
		if b.route.scripts == 0 && b.strike.kind == killedAtJournal {
			b.strike.kind = killedAnywhere // it keeps no journal
		}
		b.strike.script = b.route.scripts > 0 && rng.IntN(2) == 0
		out = append(out, b)
	}
	return out
}

// The size of the whole campaign, over all routes.
const (
	randomKills = 200
	serverKills = 20
	networkCuts = 50
	mostWrites  = 40 // of a journal by one run, more than any makes
)

// allBouts are the whole campaign. Journal writes that a run does not make are left out when they turn out
// not to be made.
func allBouts() []bout {
	var out []bout
	all := routes()
	seed := uint64(1000)
	add := func(r route, s strike) {
		seed++
		s.script = r.scripts > 0 && seed%2 == 0
		out = append(out, bout{seed: seed, route: r, strike: s})
	}
	for i := range randomKills {
		add(all[i%len(all)], strike{kind: killedAnywhere})
	}
	for i := range serverKills {
		add(all[i%len(all)], strike{kind: serverKilled})
	}
	for i := range networkCuts {
		add(all[i%len(all)], strike{kind: networkCut, cut: cut(i / len(all) % 5)})
	}
	for _, r := range all {
		if r.scripts == 0 {
			continue // it keeps no journal
		}
		for write := 1; write <= mostWrites; write++ {
			for _, moment := range journalMoments() {
				add(r, strike{kind: killedAtJournal, write: write, moment: moment})
			}
		}
	}
	return out
}

// An outcome is what a trial came to.
type outcome struct {
	struck   bool
	ended    string // how the struck run ended
	forward  bool
	back     bool
	took     time.Duration // from the end of the struck run until everything was verified, waits included
	lost     int
	doubled  int
	problems []string
}

// fight has the strike happen, recovers, and looks. A strike that comes too late, because the run was over,
// is tried again earlier on a new server.
func (b bout) fight(t *testing.T) outcome {
	t.Helper()
	rng := rand.New(rand.NewPCG(b.seed, 2)) //nolint:gosec // reproducible on purpose
	at := rng.IntN(b.route.commands)
	if b.strike.script {
		at = rng.IntN(b.route.scripts)
	}
	for range 6 {
		tr := newTrial(t, b.seed)
		tr.busy = b.strike.kind != serverKilled && tr.rng.IntN(2) == 0
		sc := b.route.stage(tr)
		for _, args := range sc.prepare {
			if c := tr.run(args...); c.code != 0 {
				t.Fatalf("%v: %s", args, c)
			}
		}
		if sc.live != nil {
			sc.live.begin(t.Context())
		}
		c, struck, sent := tr.strike(b.strike, sc.journal, at, sc.command)
		if !struck {
			if c.code != 0 {
				t.Fatalf("undisturbed, %v: %s", sc.command, c)
			}
			if b.strike.kind == killedAtJournal && tortured() {
				return outcome{} // the run makes fewer writes
			}
			if b.strike.kind == killedAtJournal {
				b.strike.write = max(1, b.strike.write-1)
			} else {
				at = rng.IntN(max(1, min(at, sent)))
			}
			continue
		}
		if b.strike.write == mostWrites {
			t.Errorf("a run makes %d writes to its journal or more: raise mostWrites", mostWrites)
		}
		return b.recover(tr, sc, c)
	}
	t.Fatal("six runs were over before they could be struck")
	return outcome{}
}

// recover does what an operator does after c, and looks.
func (b bout) recover(tr *trial, sc scene, c finished) (out outcome) {
	tr.t.Helper()
	out = outcome{struck: true, ended: fmt.Sprintf("exit %d", c.code)}
	if c.code == -1 {
		out.ended = "killed"
	}
	began := time.Now()
	defer func() { out.took = time.Since(began) }()

	ways := []string{"the same again", "resume", "host", "back"}
	if sc.resume == nil {
		ways[1] = ways[0]
	}
	if sc.host == nil {
		ways[2] = ways[0]
	}
	if sc.back == nil {
		ways[3] = ways[0]
	}
	way := ways[tr.rng.IntN(len(ways))]
	if tr.rng.IntN(4) == 0 { // another strike while it recovers
		first := map[string][]string{"the same again": sc.command, "resume": sc.resume, "host": sc.host, "back": sc.back}[way]
		_, _, _ = tr.strike(strike{kind: killedAnywhere}, sc.journal, tr.rng.IntN(b.route.commands), first)
		way += ", killed once more"
	}
	fail := func(what string, args []string, c finished) outcome {
		var met reckoning
		if sc.live != nil {
			sc.live.account(nil, &met)
		}
		tr.t.Errorf("%s: %s after %q: %v: %s\n%s", b, what, out.ended, args, c, met)
		out.problems = append(out.problems, what)
		return out
	}
	check := func(when string, r reckoning) {
		out.lost, out.doubled = out.lost+r.lost, out.doubled+r.doubled
		if len(r.wrong) > 0 {
			tr.t.Errorf("%s: the struck run ended with %s, then %s; %s: %s\nthe struck run: %s", b, out.ended, way, when, r, c)
			out.problems = append(out.problems, when)
		}
	}
	if strings.HasPrefix(way, "back") {
		if c := tr.operate(sc.back...); c.code != 0 {
			return fail("the way back failed", sc.back, c)
		}
		sc.quiet()
		check("after the way back", sc.home())
		out.back = true
		return out
	}
	completed := false
	switch {
	case strings.HasPrefix(way, "resume"):
		if c := tr.operate(sc.resume...); c.code != 0 && !strings.Contains(c.stderr, "was never begun") {
			return fail("resume failed", sc.resume, c)
		}
	case strings.HasPrefix(way, "host"):
		if c := tr.operate(sc.host...); c.code != 0 {
			return fail("the host failed", sc.host, c)
		}
		completed = true
	}
	if sc.live != nil { // what came late is taken in when everything is quiet
		if c := tr.operate(sc.command...); c.code != 0 {
			return fail("the same command failed", sc.command, c)
		}
		sc.quiet()
	}
	// What was struck before it was recorded was not begun; of what is in place there is nothing to do.
	if c := tr.operate(sc.command...); c.code != 0 && (sc.done == "" || !strings.Contains(c.stderr, sc.done)) {
		return fail("the same command failed", sc.command, c)
	}
	check("after it went on", sc.there())
	out.forward = true
	if sc.back != nil && !completed {
		if c := tr.operate(sc.back...); c.code != 0 {
			return fail("the way back failed", sc.back, c)
		}
		check("after it went on, and back", sc.home())
	}
	return out
}

// Scores count outcomes. It is safe for concurrent use.
type scores struct {
	mu   sync.Mutex
	rows map[[2]string]*row
}

// A row is all trials of one route and one kind of strike.
type row struct {
	trials, forward, back, lost, doubled, failed int
	slowest                                      time.Duration
	survived                                     int // the struck run came to its end by itself
}

func (t *scores) add(b bout, o outcome) {
	if !o.struck {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rows == nil {
		t.rows = map[[2]string]*row{}
	}
	key := [2]string{b.route.name, string(b.strike.kind)}
	r := t.rows[key]
	if r == nil {
		r = &row{}
		t.rows[key] = r
	}
	r.trials++
	if o.forward {
		r.forward++
	}
	if o.back {
		r.back++
	}
	if o.ended == "exit 0" {
		r.survived++
	}
	if len(o.problems) > 0 {
		r.failed++
	}
	r.lost, r.doubled = r.lost+o.lost, r.doubled+o.doubled
	r.slowest = max(r.slowest, o.took)
}

// markdown is the scores as a page.
func (t *scores) markdown(took time.Duration) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	b.WriteString("# Results of the crash campaign\n\n")
	b.WriteString("| migration | struck by | trials | ended by itself | resumed forward | rolled back | lost | doubled | wrong | slowest recovery |\n")
	b.WriteString("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	var sum row
	line := func(name, kind string, r row) {
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d | %d | %d | %d | %.1f s |\n", name, kind,
			r.trials, r.survived, r.forward, r.back, r.lost, r.doubled, r.failed, r.slowest.Seconds())
	}
	for _, r := range routes() {
		for _, kind := range []strikeKind{killedAnywhere, killedAtJournal, serverKilled, networkCut} {
			one := t.rows[[2]string{r.name, string(kind)}]
			if one == nil {
				continue
			}
			line(r.name, string(kind), *one)
			sum.trials, sum.survived, sum.forward, sum.back = sum.trials+one.trials, sum.survived+one.survived, sum.forward+one.forward, sum.back+one.back
			sum.lost, sum.doubled, sum.failed = sum.lost+one.lost, sum.doubled+one.doubled, sum.failed+one.failed
			sum.slowest = max(sum.slowest, one.slowest)
		}
	}
	line("**all**", "", sum)
	fmt.Fprintf(&b, "\n%d trials took %s.\n", sum.trials, took.Round(time.Second))
	return b.String()
}
