package tend_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// lossy loses the reply to one script: the server has run it, and nobody knows.
type lossy struct {
	at     int // which script, from 1
	seen   int
	before func() // called in place of the script, when not nil
}

func (l *lossy) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *lossy) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (l *lossy) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if name := cmd.Name(); name != "eval" && name != "evalsha" {
			return next(ctx, cmd)
		}
		err := next(ctx, cmd)
		if err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
			return err
		}
		if l.seen++; l.seen == l.at {
			if l.before != nil {
				l.before()
			}
			err = &net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection reset by peer")}
			cmd.SetErr(err)
		}
		return err
	}
}

// places counts in how many containers each job is.
func places(t *testing.T, client *redis.Client, e mover.Endpoint) map[string]int {
	t.Helper()
	where := map[string]int{}
	for _, list := range []string{"wait", "paused", "active"} {
		for _, id := range client.LRange(t.Context(), e.Key(list), 0, -1).Val() {
			where[id]++
		}
	}
	for _, set := range []string{"failed", "completed", "delayed", "prioritized"} {
		for _, id := range client.ZRange(t.Context(), e.Key(set), 0, -1).Val() {
			where[id]++
		}
	}
	return where
}

func TestARetryWhoseReplyIsLostAtAnyScriptIsFinishedByRunningItAgain(t *testing.T) {
	const jobs = 230
	for _, e := range []mover.Endpoint{bullMail(), bullMQMail(5), bullMQMail(6)} {
		for at := 1; at <= 5; at++ {
			ctx, server := t.Context(), redistest.Start(t)
			client := server.Client(t)
			fill(t, client, e, jobs)
			other := server.Client(t)
			other.AddHook(&lossy{at: at})
			q := tend.At(other, e)
			s, err := q.Select(ctx, tend.Criteria{States: []mover.State{mover.Failed}})
			if err != nil {
				t.Fatal(err)
			}
			out, err := q.Act(ctx, tend.Retry, s, tend.ActOptions{})
			if err == nil || out.Unknown == 0 || out.Done+out.Left+out.Unknown != jobs {
				t.Fatalf("%s, script %d: %+v, %v", e, at, out, err)
			}
			_, again := act(t, q, tend.Retry, tend.Criteria{States: []mover.State{mover.Failed}})
			if again.Done != out.Left {
				t.Errorf("%s, script %d: then %+v, want the %d that were left", e, at, again, out.Left)
			}
			for id, n := range places(t, client, e) {
				if n != 1 {
					t.Errorf("%s, script %d: job %s is in %d places", e, at, id, n)
				}
			}
			if n := client.LLen(ctx, e.Key("wait")).Val(); n != jobs {
				t.Errorf("%s, script %d: %d jobs wait, want %d", e, at, n, jobs)
			}
		}
	}
}

func TestAServerThatDiesBetweenScriptsHasEveryJobInOnePlace(t *testing.T) {
	const jobs = 230
	for _, e := range []mover.Endpoint{bullMail(), bullMQMail(6)} {
		for _, action := range []tend.Action{tend.Retry, tend.Delete} {
			ctx := t.Context()
			server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
			client := server.Client(t)
			fill(t, client, e, jobs)
			other := server.Client(t)
			other.AddHook(&lossy{at: 2, before: func() { server.Kill(t) }})
			q := tend.At(other, e)
			s, err := q.Select(ctx, tend.Criteria{States: []mover.State{mover.Failed}})
			if err != nil {
				t.Fatal(err)
			}
			out, err := q.Act(ctx, action, s, tend.ActOptions{})
			if err == nil {
				t.Fatalf("%s: the dead server was not noticed: %+v", e, out)
			}
			server.Restart(t)
			client = server.Client(t)
			where := places(t, client, e)
			hashes := 0
			for i := 1; i <= jobs; i++ {
				id := fmt.Sprint(i)
				n := int(client.Exists(ctx, e.Key(id)).Val())
				if hashes += n; where[id] != n {
					t.Errorf("%s, %s: job %s has %d hashes and is in %d places", e, action, id, n, where[id])
				}
			}
			if action == tend.Retry && hashes != jobs {
				t.Errorf("%s: %d jobs of %d are there", e, hashes, jobs)
			}
			again := tend.At(client, e)
			_, rest := act(t, again, action, tend.Criteria{States: []mover.State{mover.Failed}})
			if rest.Done != out.Left && rest.Done != out.Left+out.Unknown {
				t.Errorf("%s, %s: then %+v after %+v", e, action, rest, out)
			}
			if left := client.ZCard(ctx, e.Key("failed")).Val(); left != 0 {
				t.Errorf("%s, %s: %d jobs are left", e, action, left)
			}
		}
	}
}

func TestAServerWithoutMemoryHasEveryJobInOnePlaceAndTakesNoNewOne(t *testing.T) {
	for _, e := range []mover.Endpoint{bullMail(), bullMQMail(5), bullMQMail(6)} {
		ctx, client := t.Context(), redistest.Start(t).Client(t)
		fill(t, client, e, 60)
		client.ConfigSet(ctx, "maxmemory", "1")
		q := tend.At(client, e)
		if _, err := q.Enqueue(ctx, tend.NewJob{Name: "send"}); err == nil {
			t.Errorf("%s: a job was added", e)
		}
		if n := client.Exists(ctx, e.Key("wait"), e.Key("61")).Val(); n != 0 {
			t.Errorf("%s: of a refused job %d keys are left", e, n)
		}
		s, err := q.Select(ctx, tend.Criteria{States: []mover.State{mover.Failed}})
		if err != nil {
			t.Fatal(err)
		}
		out, err := q.Act(ctx, tend.Retry, s, tend.ActOptions{})
		if out.Unknown != 0 || out.Done+out.Left != 60 || (err == nil) != (out.Left == 0) {
			t.Errorf("%s: %+v, %v", e, out, err)
		}
		for id, n := range places(t, client, e) {
			if n != 1 {
				t.Errorf("%s: job %s is in %d places", e, id, n)
			}
		}
		if n := client.LLen(ctx, e.Key("wait")).Val(); n != out.Done {
			t.Errorf("%s: %d jobs wait, %d are done", e, n, out.Done)
		}
	}
}

func TestAnActThatIsInterruptedStopsBetweenTwoScripts(t *testing.T) {
	e, client := bullMQMail(6), redistest.Start(t).Client(t)
	fill(t, client, e, 230)
	q := tend.At(client, e)
	s, err := q.Select(t.Context(), tend.Criteria{States: []mover.State{mover.Failed}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out, err := q.Act(ctx, tend.Retry, s, tend.ActOptions{OnProgress: func(looked, _ int64) {
		if looked >= 100 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || out.Done < 100 || out.Unknown != 0 || out.Done+out.Left != 230 {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestAUserWhoMayNotTakeJobsAwayPutsNoneInTwoPlaces(t *testing.T) {
	for _, e := range []mover.Endpoint{bullMail(), bullMQMail(5), bullMQMail(6)} {
		server := redistest.Start(t)
		ctx, client := t.Context(), server.Client(t)
		fill(t, client, e, 60)
		if err := client.Do(ctx, "ACL", "SETUSER", "half", "on", ">pw", "~*", "&*", "+@all", "-zrem").Err(); err != nil {
			t.Fatal(err)
		}
		half := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "half", Password: "pw", DisableIdentity: true, MaxRetries: -1})
		t.Cleanup(func() { _ = half.Close() })
		q := tend.At(half, e)
		s, err := q.Select(ctx, tend.Criteria{States: []mover.State{mover.Failed}})
		if err != nil {
			t.Fatal(err)
		}
		if out, err := q.Act(ctx, tend.Retry, s, tend.ActOptions{}); err == nil {
			t.Errorf("%s: %+v", e, out)
		}
		for id, n := range places(t, client, e) {
			if n != 1 {
				t.Errorf("%s: job %s is in %d places", e, id, n)
			}
		}
	}
}
