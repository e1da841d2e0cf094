package migrate_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/journal"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A phase is one of steps that the test chose.
type phase struct {
	steps    []migrate.Step
	complete func(context.Context) error
}

func (p *phase) Target() migrate.Target { return mail }
func (p *phase) Options() any           { return map[string]string{"to": "bullmq"} }
func (p *phase) Steps() []migrate.Step  { return p.steps }

func (p *phase) Plan(context.Context) (migrate.Outline, error) {
	return migrate.Outline{}.Normal(), nil
}

func (p *phase) Irreversible(context.Context) ([]string, error) { return []string{"the ledger"}, nil }

func (p *phase) Complete(ctx context.Context) error {
	if p.complete == nil {
		return nil
	}
	return p.complete(ctx)
}

// slow is a step that is under way until it is told to end, or interrupted.
type slow struct {
	mark
	began chan struct{} // receives once for each Apply
	end   chan struct{}
}

func (s *slow) Apply(ctx context.Context) error {
	s.began <- struct{}{}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.end:
		return s.mark.Apply(ctx)
	}
}

// A stage is a Redis with one migration and what is needed to host it.
type stage struct {
	t      *testing.T
	client *redis.Client
	opts   migrate.HostOptions
	world  map[string]int
	slow   *slow
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, client: redistest.Start(t).Client(t), world: map[string]int{}}
	s.slow = &slow{mark: mark{name: "phase3.move", world: s.world}, began: make(chan struct{}, 8), end: make(chan struct{})}
	s.opts = migrate.HostOptions{
		Client: s.client, Session: sessionIn(t.TempDir()), Begin: true, Subscribe: s.subscribe,
		Open: func(_ context.Context, _ migrate.State, env migrate.Env) (migrate.Phase, error) {
			return &phase{steps: s.steps(env)}, nil
		},
	}
	return s
}

func (s *stage) steps(migrate.Env) []migrate.Step {
	return []migrate.Step{&mark{name: "phase3.ledger", world: s.world}, s.slow}
}

func (s *stage) subscribe(ctx context.Context, channel string) (migrate.Rings, error) {
	sub := s.client.Subscribe(ctx, channel)
	if _, err := sub.Receive(ctx); err != nil {
		return migrate.Rings{}, err
	}
	rings := make(chan struct{}, 1)
	messages := sub.Channel(redis.WithChannelHealthCheckInterval(0)) // whose PINGs would be counted
	go func() {
		for range messages {
			rings <- struct{}{}
		}
	}()
	return migrate.Rings{C: rings, Close: func() { _ = sub.Close() }}, nil
}

// host runs the host in the background; the returned function waits for its end.
func (s *stage) host() func() (migrate.Hosted, error) {
	type end struct {
		hosted migrate.Hosted
		err    error
	}
	ended := make(chan end, 1)
	go func() {
		hosted, err := migrate.Host(s.t.Context(), s.opts)
		ended <- end{hosted, err}
	}()
	return func() (migrate.Hosted, error) {
		s.t.Helper()
		select {
		case e := <-ended:
			return e.hosted, e.err
		case <-time.After(30 * time.Second):
			s.t.Fatal("the host goes on and on")
			return migrate.Hosted{}, nil
		}
	}
}

func (s *stage) ask(i migrate.Intent) {
	s.t.Helper()
	if _, err := migrate.Ask(s.t.Context(), s.client, mail, i, time.Hour); err != nil {
		s.t.Fatal(err)
	}
}

// until waits for a condition to be shown.
func (s *stage) until(want migrate.Condition) migrate.Standing {
	s.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		look, err := migrate.Look(s.t.Context(), s.client, s.opts.Session)
		if err != nil {
			s.t.Fatal(err)
		}
		if look.Condition() == want {
			return look
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("it is %s (%+v), want %s", look.Condition(), look.Pulse, want)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (s *stage) wantWorld(want map[string]int) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.world); diff != "" {
		s.t.Errorf("world (-want +got):\n%s", diff)
	}
}

func moved() map[string]int { return map[string]int{"phase3.ledger": 1, "phase3.move": 1} }

func TestAPauseInterruptsTheStepUntilItIsWithdrawn(t *testing.T) {
	s := newStage(t)
	wait := s.host()
	<-s.slow.began
	if got := s.until(migrate.Ramping); got.Holder == nil {
		t.Error("nobody holds the lease")
	}
	s.ask(migrate.Intent{Verb: migrate.IntentPause, By: "bob", Reason: "sale"})
	look := s.until(migrate.Paused)
	if look.Pulse == nil || look.Pulse.Why != "bob asked to pause: sale" || look.State.Stop != migrate.StopPaused {
		t.Errorf("it says %+v and the journal %q, want who paused it", look.Pulse, look.State.Stop)
	}
	close(s.slow.end)
	if err := migrate.Withdraw(t.Context(), s.client, mail, migrate.IntentPause); err != nil {
		t.Fatal(err)
	}
	hosted, err := wait()
	if err != nil || hosted.State.Stage != migrate.Complete {
		t.Fatalf("Host = %s, %v, want complete", hosted.State.Stage, err)
	}
	s.wantWorld(moved())
	if look := s.until(migrate.Verified); look.Pulse != nil {
		t.Errorf("the host is gone and still says %+v", look.Pulse)
	}
}

func TestAPauseThatWasThereBeforeKeepsTheFirstStepFromBeginning(t *testing.T) {
	s := newStage(t)
	s.ask(migrate.Intent{Verb: migrate.IntentPause})
	wait := s.host()
	s.until(migrate.Planned)
	close(s.slow.end)
	if err := migrate.Withdraw(t.Context(), s.client, mail, migrate.IntentPause); err != nil {
		t.Fatal(err)
	}
	if _, err := wait(); err != nil {
		t.Fatal(err)
	}
	s.wantWorld(moved())
}

func TestARollbackThatIsAskedForInterruptsTheStep(t *testing.T) {
	for _, verb := range []migrate.Verb{migrate.IntentRollback, migrate.IntentAbort} {
		t.Run(string(verb), func(t *testing.T) {
			s := newStage(t)
			wait := s.host()
			<-s.slow.began
			s.ask(migrate.Intent{Verb: verb, By: "bob", Reason: "workers crash"})
			hosted, err := wait()
			if _, ok := errors.AsType[*migrate.RolledBackError](err); !ok || hosted.State.Stage != migrate.RolledBack {
				t.Fatalf("Host = %s, %v, want it rolled back", hosted.State.Stage, err)
			}
			s.wantWorld(nothing)
			look := s.until(migrate.WasRolledBack)
			if len(look.Intents) != 0 {
				t.Errorf("intents are left: %+v", look.Intents)
			}
			var why string
			for _, e := range look.Entries {
				if e.Kind == journal.Back {
					why = string(e.Detail)
				}
			}
			if !strings.Contains(why, "bob asked for "+string(verb)+": workers crash") {
				t.Errorf("the journal says %s, want who asked and why", why)
			}
		})
	}
}

// Somebody asks a host that is dead to roll back, and then rolls back himself.
func TestARollbackThatWasAskedForBeforeIsNoFailureOfTheRollback(t *testing.T) {
	s := newStage(t)
	close(s.slow.end)
	if _, err := s.host()(); err != nil {
		t.Fatal(err)
	}
	s.ask(migrate.Intent{Verb: migrate.IntentRollback, Reason: "users wait"})
	s.opts.Begin, s.opts.Back = false, true
	hosted, err := s.host()()
	if err != nil || hosted.State.Stage != migrate.RolledBack {
		t.Fatalf("got %s, %v, want it rolled back", hosted.State.Stage, err)
	}
	for _, e := range s.until(migrate.WasRolledBack).Entries {
		if e.Kind == journal.Back && !strings.Contains(string(e.Detail), "asked for rollback: users wait") {
			t.Errorf("the journal says %s, want who asked and why", e.Detail)
		}
	}
}

// The bell rings before anybody listens, as a host begins.
func TestWhatIsAskedForBeforeTheBellIsThereInterruptsTheStepToo(t *testing.T) {
	s := newStage(t)
	asked := make(chan struct{})
	s.opts.Subscribe = func(ctx context.Context, channel string) (migrate.Rings, error) {
		<-asked
		return s.subscribe(ctx, channel)
	}
	wait := s.host()
	<-s.slow.began
	s.ask(migrate.Intent{Verb: migrate.IntentRollback})
	close(asked)
	if hosted, err := wait(); hosted.State.Stage != migrate.RolledBack {
		t.Fatalf("Host = %s, %v, want it rolled back", hosted.State.Stage, err)
	}
}

func TestARateThatIsAskedForIsInForceAtOnce(t *testing.T) {
	s := newStage(t)
	wait := s.host()
	<-s.slow.began
	s.ask(migrate.Intent{Verb: migrate.IntentRate, Rate: 250})
	s.ask(migrate.Intent{Verb: migrate.IntentPause})
	if look := s.until(migrate.Paused); look.Pulse.Rate != 250 {
		t.Errorf("it goes at %g, want 250", look.Pulse.Rate)
	}
	close(s.slow.end)
	if err := migrate.Withdraw(t.Context(), s.client, mail, migrate.IntentPause); err != nil {
		t.Fatal(err)
	}
	if _, err := wait(); err != nil {
		t.Fatal(err)
	}
}

func TestAHeldMigrationCompletesWhenTheApprovalAppears(t *testing.T) {
	s := newStage(t)
	close(s.slow.end)
	s.opts.Stay, s.opts.Hold = true, true
	s.opts.Approval = filepath.Join(t.TempDir(), "approved")
	s.opts.Sweep = 20 * time.Millisecond
	wait := s.host()
	s.until(migrate.OnHold)
	if err := os.WriteFile(s.opts.Approval, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if hosted, err := wait(); err != nil || hosted.State.Stage != migrate.Finished {
		t.Fatalf("Host = %s, %v, want it finished", hosted.State.Stage, err)
	}
	s.until(migrate.Completed)
	s.opts.Begin, s.opts.Back = false, true
	_, err := migrate.Host(t.Context(), s.opts)
	if _, ok := errors.AsType[*migrate.FinishedError](err); !ok {
		t.Errorf("rolling back = %v, want a *FinishedError", err)
	}
	s.wantWorld(moved())
}

func TestAFailedGateRollsBackOnlyWhereThatWasAskedFor(t *testing.T) {
	for name, auto := range map[string]bool{"asked for": true, "not asked for": false} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.opts.AutoRollback = auto
			s.opts.Watch = bad{}
			s.opts.Open = func(_ context.Context, _ migrate.State, env migrate.Env) (migrate.Phase, error) {
				soak, err := migrate.NewSoak(migrate.SoakOptions{
					Name: "phase3.soak", Every: time.Millisecond, Env: env,
					Gates: []migrate.Gate{{KPI: migrate.KPIConnectionErrors, Unit: "errors"}},
				})
				return &phase{steps: []migrate.Step{&mark{name: "phase3.ledger", world: s.world}, soak}}, err
			}
			hosted, err := migrate.Host(t.Context(), s.opts)
			if _, ok := errors.AsType[*migrate.GateError](err); !ok {
				t.Fatalf("Host = %v, want the gate", err)
			}
			_, back := errors.AsType[*migrate.RolledBackError](err)
			want, stage := map[string]int{"phase3.ledger": 1}, migrate.Forward
			if auto {
				want, stage = nothing, migrate.RolledBack
			}
			s.wantWorld(want)
			if back != auto || hosted.State.Stage != stage {
				t.Errorf("rolled back %v and %s, want %v and %s", back, hosted.State.Stage, auto, stage)
			}
			if !auto {
				s.until(migrate.FailedResumable)
			}
		})
	}
}

// bad is a Watch that measures too much of everything.
type bad struct{}

func (bad) Read(_ context.Context, _ string, from, to time.Time) (migrate.Evidence, error) {
	return migrate.Evidence{Value: 7, Known: true, From: from, To: to, Samples: 1, Coverage: 1}, nil
}

func TestTheEndOfAHostInterruptsItsStep(t *testing.T) {
	s := newStage(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-s.slow.began
		cancel()
	}()
	hosted, err := migrate.Host(ctx, s.opts)
	if !errors.Is(err, context.Canceled) || hosted.State.Stage != migrate.Forward {
		t.Fatalf("Host = %s, %v, want it cancelled on its way", hosted.State.Stage, err)
	}
	if got := s.until(migrate.Paused); got.Holder != nil {
		t.Errorf("%s still holds the lease", got.Holder.Owner)
	}
	close(s.slow.end)
	s.opts.Begin = false
	if _, err := migrate.Host(t.Context(), s.opts); err != nil {
		t.Fatal(err)
	}
	s.wantWorld(moved())
}

func TestFinishingGoesOnAfterACrashAtEveryWrite(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for crash := range 2 {
			log := &memLog{failAt: -1}
			world := map[string]int{}
			steps := []migrate.Step{&mark{name: "a", world: world}}
			e := migrate.NewEngine(log, steps...)
			if err := e.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			log.failAt, log.lost = log.writes+crash, lost
			gone := 0
			give := func(context.Context) error { gone++; return nil }
			if err := e.Finish(t.Context(), give); !errors.Is(err, errCrash) {
				t.Fatalf("Finish = %v, want the crash", err)
			}
			e = migrate.NewEngine(log.reopen(), steps...)
			if err := e.Finish(t.Context(), give); err != nil {
				t.Fatalf("crash at %d, lost %v: %v", crash, lost, err)
			}
			s, err := e.State()
			if err != nil || s.Stage != migrate.Finished || gone == 0 {
				t.Errorf("crash at %d, lost %v: %s, %v, given up %d times", crash, lost, s.Stage, err, gone)
			}
			if err := e.Start(t.Context()); err != nil { // what came since is found by a new run
				t.Errorf("a new run: %v", err)
			}
		}
	}
}

// counted is how many commands the server ran, by name, inside scripts too, without those of who asks.
func (s *stage) counted() map[string]int64 {
	s.t.Helper()
	text, err := s.client.Info(s.t.Context(), "commandstats").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]int64{}
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !ok {
			continue
		}
		number, _, _ := strings.Cut(rest, ",")
		if out[name], err = strconv.ParseInt(number, 10, 64); err != nil {
			s.t.Fatal(err)
		}
	}
	return out
}

// How often a lease is renewed that rests is told elsewhere; here it is what one renewal costs, which a ring of the
// bell brings forward.
func TestHostingCostsWhatIsSaid(t *testing.T) {
	s := newStage(t)
	close(s.slow.end)
	s.opts.Stay, s.opts.Hold = true, true
	s.opts.Watch = bad{} // its samples are counted elsewhere
	subscribed := make(chan error, 1)
	s.opts.Subscribe = func(ctx context.Context, channel string) (migrate.Rings, error) {
		rings, err := s.subscribe(ctx, channel)
		subscribed <- err
		return rings, err
	}
	wait := s.host()
	if err := <-subscribed; err != nil {
		t.Fatal(err)
	}
	s.until(migrate.OnHold)
	before, polls := s.counted(), int64(1)
	const rings = 5
	renewals := int64(0) // what the host told last may need one more than those that are rung for
	for range rings {
		if heard, err := migrate.Knock(t.Context(), s.client, mail, "look"); err != nil || heard != 1 {
			t.Fatalf("Knock = %d, %v, want one listener", heard, err)
		}
		seen := renewals
		until(t, "a renewal", func() bool {
			polls++
			renewals = s.counted()["evalsha"] - before["evalsha"]
			return renewals > seen
		})
	}
	after := s.counted()
	polls++
	renewals = after["evalsha"] - before["evalsha"]
	var all int64
	for name, n := range after {
		all += n - before[name]
	}
	all -= rings + polls - 1 // what this test sent, but for its last look, which is not among what it tells itself
	commands, inScript := s.opts.Resting(10 * time.Minute)
	if said := renewals * (commands + inScript); all != said || renewals < rings {
		t.Errorf("%d commands for %d renewals, said are %d: %v before, %v after", all, renewals, said, before, after)
	}
	s.ask(migrate.Intent{Verb: migrate.IntentComplete})
	if hosted, err := wait(); err != nil || hosted.State.Stage != migrate.Finished {
		t.Fatalf("Host = %s, %v, want it finished", hosted.State.Stage, err)
	}
}

func TestAHostThatRestsFollowsTheBellAtOnceAndLearnsThatItsLeaseWasTaken(t *testing.T) {
	s := newStage(t)
	s.opts.Stay, s.opts.Hold = true, true // with a lease of 20 minutes, renewed every 10
	wait := s.host()
	<-s.slow.began
	began := time.Now()
	s.ask(migrate.Intent{Verb: migrate.IntentPause})
	s.until(migrate.Paused)
	t.Logf("a pause was followed and told after %s", time.Since(began))
	if left := s.client.PTTL(t.Context(), mail.LeaseKey()).Val(); left < 15*time.Minute {
		t.Errorf("the lease of a host that rests lasts %s, want nearly 20 minutes", left)
	}
	close(s.slow.end)
	if err := migrate.Withdraw(t.Context(), s.client, mail, migrate.IntentPause); err != nil {
		t.Fatal(err)
	}
	s.until(migrate.OnHold)
	shown, err := migrate.Holding(t.Context(), s.client, mail.LeaseKey())
	if err != nil || shown == nil {
		t.Fatalf("Holding = %+v, %v, want the host", shown, err)
	}
	if _, err := migrate.ForceUnlock(t.Context(), s.client, mail.LeaseKey(), *shown); err != nil {
		t.Fatal(err)
	}
	if heard, err := migrate.Knock(t.Context(), s.client, mail, "unlocked"); err != nil || heard != 1 {
		t.Errorf("Knock = %d, %v, want one listener", heard, err)
	}
	if _, err := wait(); !errors.Is(err, migrate.ErrLeaseLost) {
		t.Errorf("Host = %v, want ErrLeaseLost", err)
	}
}

func TestAPauseEndsByItselfWithoutAnybodyRinging(t *testing.T) {
	s := newStage(t)
	if _, err := migrate.Ask(t.Context(), s.client, mail, migrate.Intent{Verb: migrate.IntentPause}, time.Second); err != nil {
		t.Fatal(err)
	}
	wait := s.host()
	close(s.slow.end)
	if hosted, err := wait(); err != nil || hosted.State.Stage != migrate.Complete {
		t.Fatalf("Host = %s, %v, want it to have gone on", hosted.State.Stage, err)
	}
}

func TestAnIntentThatNobodyHeardSaysSo(t *testing.T) {
	s := newStage(t)
	asked, err := migrate.Ask(t.Context(), s.client, mail, migrate.Intent{Verb: migrate.IntentPause}, time.Hour)
	if err != nil || asked.Heard != 0 {
		t.Errorf("Ask = %+v, %v, want that nobody heard it", asked, err)
	}
}
