package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// elevenQueues are those of the design document, in the order in which they are moved.
func elevenQueues() []string {
	return []string{
		"webhook-health-check", "notification-reminder", "token-health-reminder", "adaptive-sync", "webhook-renewal",
		"suggestion-regeneration", "batch-notifications", "suggestion-generation", "token-refresh", "calendar-sync",
		"google-contacts-sync",
	}
}

// An elevenRoute is a way from one engine to another and back.
type elevenRoute struct {
	from, to       string // bull, bullmq5, bullmq6 or asynq
	prefix, toward string // key prefixes
	flags          []string
}

func (r elevenRoute) String() string { return r.from + " to " + r.to + " and back" }

func elevenRoutes() []elevenRoute {
	return []elevenRoute{
		{"bull", "bullmq5", "bull", "bullmq", []string{"--engine", "bullmq"}},
		{"bull", "asynq", "bull", "asynq", []string{"--engine", "asynq"}},
		{"bull", "bullmq6", "bull", "bullmq", []string{"--engine", "bullmq"}},
		{"bullmq5", "bullmq6", "bull", "bullmq", []string{"--engine", "bullmq", "--bullmq-major", "6"}},
		{"bullmq5", "asynq", "bull", "asynq", []string{"--engine", "asynq"}},
		{"bullmq6", "asynq", "bull", "asynq", []string{"--engine", "asynq"}},
	}
}

const (
	elevenTick    = 4000 // milliseconds between two runs of each schedule
	elevenEvery   = 55   // milliseconds between two jobs of a queue: 200 a second in all
	elevenWork    = 8    // milliseconds that a job takes
	elevenBacklog = 150  // jobs that wait when a queue is moved
)

// TestElevenQueuesMoveThereAndBackUnderTraffic moves the queues of the design document between real libraries, and
// back, while 200 jobs a second are added and run. One route is taken, another one under -race, all
// with TORTURE=1. With ELEVEN_REPORT=DIR the report of migrate report, before and after, is written to that directory.
func TestElevenQueuesMoveThereAndBackUnderTraffic(t *testing.T) {
	routes := elevenRoutes()
	switch {
	case tortured():
	case raceEnabled:
		routes = routes[1:2] // our own engine runs there
	default:
		routes = routes[:1]
	}
	for _, r := range routes {
		t.Run(r.String(), func(t *testing.T) { newEleven(t, r).run() })
	}
	if dir := os.Getenv("ELEVEN_REPORT"); dir != "" {
		t.Run("before and after", func(t *testing.T) { newEleven(t, elevenRoutes()[1]).report(dir, 4*time.Minute) })
	}
}

// An eleven is one way there and back.
type eleven struct {
	operator
	route    elevenRoute
	book     *jobBook
	from, to side
	queues   int // the last one, after these, is never moved
	left     map[jobMark]bool
	plan     string // the file
}

func newEleven(t *testing.T, r elevenRoute) *eleven {
	t.Helper()
	server := redistest.Start(t)
	e := &eleven{
		operator: operator{t: t, url: server.URL(), client: server.Client(t), dir: filepath.Join(t.TempDir(), "state")},
		route:    r, book: newJobBook(t), queues: len(elevenQueues()), left: map[jobMark]bool{},
	}
	all := append(elevenQueues(), "control")
	e.from = startNode(t, e.book, server.Addr, r.from, r.prefix, sideOptions{all, "a", elevenEvery, elevenWork})
	if r.to == "asynq" {
		e.to = startServeSide(t, e.book, server.URL(), sideOptions{all, "b", elevenEvery, elevenWork})
	} else {
		e.to = startNode(t, e.book, server.Addr, r.to, r.toward, sideOptions{all, "b", elevenEvery, elevenWork})
	}
	return e
}

// each tells a side the same about every queue that is moved, and waits for the answers.
func (e *eleven) each(s side, letter, verb, answer string, args ...any) {
	e.t.Helper()
	for q := range e.queues {
		s.tell(verb, q, args...)
	}
	if answer == "" {
		return
	}
	for q := range e.queues {
		e.answered(letter, q, answer)
	}
}

// answered waits for an answer to the last verb about a queue.
func (e *eleven) answered(letter string, q int, answer string) {
	e.t.Helper()
	e.book.await(fmt.Sprintf("%s of queue %d at %s", answer, q, letter), func() bool {
		n := e.book.answers[letter][q][answer]
		if n > 0 {
			e.book.answers[letter][q][answer] = n - 1
		}
		return n > 0
	})
}

// crowded says whether jobs wait in queue q when it is moved; in the others delayed jobs wait for nobody.
func crowded(q int) bool { return q%3 != 0 }

// settle waits until every job that a side added to the queues has begun.
func (e *eleven) settle(letter string) {
	e.t.Helper()
	for q, name := range elevenQueues() {
		what := fmt.Sprintf("the last job of queue %d, %s, that %s added", q, name, letter)
		told := time.Now()
		e.book.await(what, func() bool {
			ran, added := e.book.ran(letter, q), e.book.stopped[letter][q]
			if ran < added && time.Since(told) > time.Minute {
				told = time.Now()
				e.t.Logf("not yet %s: %d of %d; %s", what, ran, added, e.whereabouts(name))
			}
			return ran >= added
		})
	}
}

// whereabouts are the sizes of all containers of a queue.
func (e *eleven) whereabouts(name string) string {
	var all []string
	for _, key := range e.client.Keys(e.t.Context(), "*"+name+"*").Val() {
		switch e.client.Type(e.t.Context(), key).Val() {
		case "list":
			all = append(all, fmt.Sprintf("%s: %d", key, e.client.LLen(e.t.Context(), key).Val()))
		case "zset":
			all = append(all, fmt.Sprintf("%s: %d", key, e.client.ZCard(e.t.Context(), key).Val()))
		}
	}
	return strings.Join(all, ", ")
}

// flow lets traffic run until n more jobs of every queue began.
func (e *eleven) flow(letter string, n int) {
	e.t.Helper()
	for q := range e.queues {
		first := -1
		e.book.await("some traffic", func() bool {
			ran := e.book.ran(letter, q)
			if first < 0 {
				first = ran
			}
			return ran >= first+n
		})
	}
}

// behind runs a command line beside the test, which waits for its end with what is returned. A worker may hold a job
// for the moment, and jobs of a kind that the plan does not know may have come since; then the same command goes on with
// the rest, with a new plan.
func (e *eleven) behind(verb string, args ...string) (wait func()) {
	ended := make(chan string, 1)
	go func() {
		for try := 0; ; try++ {
			code, out, errs := e.typesUnder(e.t.Context(), append([]string{verb, "-o", "json"}, args...)...)
			held := strings.Contains(out+errs, "still runs active jobs")
			stale := strings.Contains(out+errs, "which the plan does not say")
			if code != exitBlocked || try == 20 || !stale && !held {
				if code != exitOK {
					e.t.Errorf("redisopt %s %s: exit %d\n%s%s", verb, strings.Join(args, " "), code, out, errs)
				}
				ended <- fmt.Sprintf("exit %d\n%s%s", code, out, errs)
				return
			}
			e.t.Logf("redisopt %s, once more: %s", verb, strings.TrimSpace(errs))
			if stale {
				e.typesUnder(e.t.Context(), append([]string{"migrate", "plan", "phase3", "--soak", "0", "--out", e.plan}, e.route.flags...)...)
			}
		}
	}()
	return func() {
		e.t.Helper()
		if end := <-ended; !strings.HasPrefix(end, "exit 0\n") {
			e.t.Fatalf("redisopt %s %s: %s", verb, strings.Join(args, " "), end)
		}
	}
}

// begun waits until jobs of a queue are being moved.
func (e *eleven) begun(name string) {
	e.t.Helper()
	counts := step.LedgerKey(mover.Endpoint{Prefix: e.route.prefix, Queue: name}) + ":counts"
	e.book.await("the move of "+name, func() bool { return e.client.Exists(e.t.Context(), counts).Val() == 1 })
}

// handOver lets the producers of the target go on with a queue.
func (e *eleven) handOver(q int) {
	e.t.Helper()
	e.from.tell("stop", q)
	e.to.tell("go", q)
	e.answered("a", q, "stopped")
}

// hosted waits until somebody hosts every queue.
func (e *eleven) hosted() {
	e.t.Helper()
	var leases []string
	for _, name := range elevenQueues() {
		leases = append(leases, migrate.Target{Phase: step.Phase3Name, Prefix: e.route.prefix, Queue: name}.LeaseKey())
	}
	e.book.await("a host of every queue", func() bool {
		return e.client.Exists(e.t.Context(), leases...).Val() == int64(len(leases))
	})
}

// leftActive notes what workers that ended had taken and not begun: it comes after what was moved before.
func (e *eleven) leftActive(at mover.Endpoint) {
	e.t.Helper()
	for q, name := range elevenQueues() {
		at.Queue = name
		for _, id := range e.client.LRange(e.t.Context(), at.Key("active"), 0, -1).Val() {
			var s string
			var n int
			if _, err := fmt.Sscanf(e.client.HGet(e.t.Context(), at.Key(id), "data").Val(), `{"s":"%1s","n":%d,`, &s, &n); err == nil {
				e.left[jobMark{q, s, n}] = true
			}
		}
	}
}

func (e *eleven) run() {
	began := time.Now()
	queues := elevenQueues()
	e.each(e.from, "a", "schedule", "scheduled", elevenTick)
	e.each(e.from, "a", "work", "works")
	e.each(e.to, "b", "work", "works")
	e.each(e.from, "a", "go", "")
	for _, s := range []side{e.from, e.to} {
		s.tell("work", e.queues)
		s.tell("late", e.queues)
	}
	e.flow("a", 20)

	// There: one command moves them one after the other, and the producers of each go over when it has been moved.
	e.plan = filepath.Join(e.t.TempDir(), "plan.json")
	e.wants(0, append([]string{"migrate", "plan", "phase3", "--soak", "0", "--out", e.plan}, e.route.flags...)...)
	moved := e.behind("migrate", append([]string{"phase3", "--plan", e.plan, "--yes"}, e.route.flags...)...)
	for q, name := range queues {
		if crowded(q) {
			e.from.tell("burst", q, elevenBacklog)
		}
		e.begun(name)
		if q > 0 {
			e.handOver(q - 1)
		}
	}
	moved()
	e.handOver(len(queues) - 1)
	there := time.Since(began)
	ctx, interrupt := context.WithCancelCause(e.t.Context())
	defer interrupt(nil)
	hosted := make(chan string, 1)
	go func() {
		code, out, errs := e.typesUnder(ctx, "migrate", "run", "--yes")
		hosted <- fmt.Sprintf("exit %d\n%s%s", code, out, errs)
	}()
	e.hosted()
	e.each(e.from, "a", "rest", "rests")
	e.leftActive(mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: e.route.prefix})
	e.settle("a")
	e.flow("b", 20)
	interrupt(errInterrupted)
	if end := <-hosted; !strings.HasPrefix(end, fmt.Sprintf("exit %d\n", exitInterrupted)) {
		e.t.Errorf("migrate run: %s", end)
	}
	for _, name := range queues {
		e.wants(0, "migrate", "verify", "--queue", name)
	}
	e.check("there", "b", "a")

	// Back: the producers go over first, since what they add would keep the way back from ending.
	begins := time.Now()
	e.each(e.from, "a", "work", "works")
	for q := range queues {
		if crowded(q) {
			e.to.tell("burst", q, 3*elevenBacklog)
			e.answered("b", q, "burst")
		}
		e.to.tell("stop", q)
		e.from.tell("go", q)
		e.answered("b", q, "stopped")
	}
	e.behind("rollback", "phase3", "--all-queues", "--yes")()
	back := time.Since(begins)
	e.each(e.to, "b", "rest", "rests")
	e.settle("b")
	e.flow("a", 20)
	e.each(e.from, "a", "stop", "stopped")
	for _, s := range []side{e.from, e.to} {
		s.tell("stop", e.queues)
	}
	e.settle("a")
	e.check("back", "a", "b")
	e.from.quit()
	e.to.quit()

	e.t.Logf("%s: %s; there %s, back %s, in all %s", e.route, e.account(), there.Round(time.Millisecond), back.Round(time.Millisecond),
		time.Since(began).Round(time.Millisecond))
}

// check is about the order in which a worker began what the other side had added, and about delayed jobs.
func (e *eleven) check(way, worker, adder string) {
	e.t.Helper()
	all, wrong := e.book.order(worker, adder, e.queues, e.left)
	if len(wrong) > 0 {
		e.t.Errorf("%s: of %d jobs %d began before one that had been added before: %s", way, all, len(wrong),
			strings.Join(wrong[:min(len(wrong), 10)], "; "))
	}
	seconds := e.route.to == "asynq" // what has been there is due at the end of a second, also when it comes back
	moved := e.book.lateness(seconds, func(w string, s jobStart) bool {
		return w == worker && s.side == adder && s.queue < e.queues && !crowded(s.queue)
	})
	control := e.book.lateness(seconds && worker == "b", func(w string, s jobStart) bool { return w == worker && s.queue == e.queues })
	// How late a job is on a busy machine, the queue that is not moved tells.
	if worst, noise := percentile(moved, 100), percentile(control, 100); worst > noise+punctual() {
		e.t.Errorf("%s: a delayed job that was moved began %s after it was due, one of a queue that is not moved %s at worst", way, ms(worst), ms(noise))
	}
	e.t.Logf("%s: %d jobs that %s added ran at %s, in order but %d; %d delayed ones that were moved began at p50 %s, p99 %s, worst %s after they were due; "+
		"%d of a queue that is not moved at %s, %s, %s", way, all, adder, worker, len(wrong), len(moved), ms(percentile(moved, 50)), ms(percentile(moved, 99)),
		ms(percentile(moved, 100)), len(control), ms(percentile(control, 50)), ms(percentile(control, 99)), ms(percentile(control, 100)))
}

// punctual is how many milliseconds after it was due a delayed job may begin, beside what the machine takes. Where
// others use it as well, one run says little about that.
func punctual() int64 {
	if tortured() {
		return 100
	}
	return 1000
}

func ms(n int64) string { return strconv.FormatInt(n, 10) + " ms" }

// report runs for a while at Bull, moves the queues to redisopt serve, runs for as long there, and writes what migrate
// report says of that to dir.
func (e *eleven) report(dir string, each time.Duration) {
	config, last := filepath.Join(e.t.TempDir(), "serve.yaml"), e.queues-1
	serve, ok := e.to.(*serveSide)
	if !ok {
		e.t.Fatal("want a route to redisopt serve")
	}
	if err := os.WriteFile(config, []byte("version: 1\nserve: {state_dir: "+serve.StateDir+"}\n"), 0o600); err != nil {
		e.t.Fatal(err)
	}
	e.each(e.from, "a", "schedule", "scheduled", elevenTick)
	e.each(e.from, "a", "work", "works")
	e.each(e.from, "a", "go", "")
	e.passes(each)
	for q, name := range elevenQueues()[:last] {
		e.behind("migrate", append([]string{"phase3", "--queue", name, "--yes"}, e.route.flags...)...)()
		e.handOver(q)
	}
	ctx, interrupt := context.WithCancelCause(e.t.Context())
	defer interrupt(nil)
	hosted := make(chan int, 1)
	go func() {
		code, _, _ := e.typesUnder(ctx, "migrate", "run", "--yes")
		hosted <- code
	}()
	for q := range last {
		e.book.await("what was added before", func() bool { return e.book.ran("a", q) >= e.book.stopped["a"][q] })
	}
	interrupt(errInterrupted)
	if code := <-hosted; code != exitInterrupted {
		e.t.Errorf("migrate run: exit %d, want %d", code, exitInterrupted)
	}
	// The process of Bull ends before the last queue is moved: from then on what is measured is after.
	e.from.tell("stop", last)
	e.answered("a", last, "stopped")
	e.from.quit()
	if err := e.client.Close(); err != nil {
		e.t.Fatal(err)
	}
	e.to.tell("go", last)
	e.behind("migrate", append([]string{"phase3", "--queue", elevenQueues()[last], "--yes"}, e.route.flags...)...)()
	e.passes(each)
	for name, args := range map[string][]string{
		"report.md": {"-o", "markdown"}, "report.json": {"-o", "json"}, "report.txt": {"--out", filepath.Join(dir, "report.html")},
	} {
		args = append([]string{"migrate", "report", "--queue", elevenQueues()[last], "--config", config}, args...)
		code, out, errs := e.types(args...)
		if code != 0 && code != exitViolated {
			e.t.Fatalf("redisopt %s: exit %d\n%s", strings.Join(args, " "), code, errs)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(out), 0o600); err != nil {
			e.t.Fatal(err)
		}
	}
	e.each(e.to, "b", "stop", "stopped")
	e.settle("a")
	e.settle("b")
	e.t.Log(e.account())
}

// passes lets traffic go on for a while.
func (e *eleven) passes(d time.Duration) {
	e.t.Helper()
	select {
	case <-time.After(d):
	case <-e.t.Context().Done():
		e.t.Fatal(e.t.Context().Err())
	}
}

// account checks that every job began once, and every tick, and says how many did.
func (e *eleven) account() string {
	e.t.Helper()
	sum, told := e.book.count(e.queues)
	if sum.lost > 0 || sum.doubled > 0 {
		e.t.Errorf("of %d jobs %d lost, %d begun more than once, want none:\n%s", sum.jobs, sum.lost, sum.doubled, strings.Join(told, "\n"))
	}
	ticks, missed, late, doubled, told := e.book.tickCounts(e.queues, elevenTick)
	if missed > 0 || doubled > 0 {
		e.t.Errorf("of %d ticks %d missed, %d doubled, want none:\n%s", ticks, missed, doubled, strings.Join(told, "\n"))
	}
	return fmt.Sprintf("%d jobs, %d lost, %d doubled; %d ticks, %d missed, %d doubled, %d gaps after one that began late",
		sum.jobs, sum.lost, sum.doubled, ticks, missed, doubled, late)
}
