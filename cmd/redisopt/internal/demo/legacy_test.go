package demo

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/inspect/connections"
	"github.com/redisopt/redisopt/internal/runtime/embedded"
)

func startEmbedded(t *testing.T) (*embedded.Server, *redis.Client) {
	t.Helper()
	s, err := embedded.Start(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	c := redis.NewClient(&redis.Options{Addr: s.Addr(), PoolSize: 1, PipelinePoolSize: -1, DisableIdentity: true, MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() })
	return s, c
}

func attach(t *testing.T, s *embedded.Server, p pace) *legacy {
	t.Helper()
	l, err := startLegacy(t.Context(), s.DialFrom, p, map[string]bool{"suggestion-generation": true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l
}

func TestSimulatedConnectionsAreAttributedAsRealOnesAre(t *testing.T) {
	s, c := startEmbedded(t)
	attach(t, s, bullPace())
	r, err := connections.Audit(t.Context(), c, connections.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[connections.Role]int{
		connections.RoleWorker: 11, connections.RoleSubscriber: 11, connections.RoleQueueClient: 11,
		connections.RoleCache: 1, connections.RoleLimiter: 1, connections.RoleSMS: 1, connections.RolePool: poolSize,
	}
	got := map[connections.Role]int{}
	perQueue := map[string]int{}
	for _, c := range r.Connections {
		if c.Own {
			continue
		}
		got[c.Role]++
		if c.Library == connections.LibraryBull {
			perQueue[c.Prefix+":"+c.Queue]++
		}
	}
	for role, n := range want {
		if got[role] != n {
			t.Errorf("%d connections with role %s, want %d", got[role], role, n)
		}
	}
	if r.Unknown != 0 || r.Total != 36+poolSize {
		t.Errorf("%d connections, %d unknown; want %d, none unknown", r.Total, r.Unknown, 36+poolSize)
	}
	for _, q := range legacyQueues() {
		if n := perQueue[q.prefix+":"+q.name]; n != 3 {
			t.Errorf("queue %s has %d connections, want 3", q.name, n)
		}
	}
}

// idleRates counts what the simulated application sends in a window: by itself, and with what its
// scripts call.
func idleRates(t *testing.T, c *redis.Client, window time.Duration) (top, all float64) {
	t.Helper()
	ctx := t.Context()
	if err := c.ConfigResetStat(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	select {
	case <-time.After(window):
	case <-ctx.Done():
	}
	took := time.Since(began).Seconds()
	info := c.Info(ctx, "commandstats").Val()
	for line := range strings.SplitSeq(info, "\r\n") {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !ok || name == "config|resetstat" {
			continue
		}
		digits, _, _ := strings.Cut(rest, ",")
		n, err := strconv.ParseFloat(digits, 64)
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		all += n
		if name == "evalsha" || name == "brpoplpush" {
			top += n
		}
	}
	return top / took, all / took
}

func TestAnIdleApplicationCostsWhatWasMeasured(t *testing.T) {
	const faster = 20 // time runs so many times faster than Bull's defaults
	s, c := startEmbedded(t)
	p := bullPace()
	attach(t, s, pace{p.drainDelay / faster, p.guard / faster, p.stalled / faster})
	top, all := idleRates(t, c, 3*time.Second)
	// Measured on real Bull over 125s: 594 commands by themselves, 1,296 with those in scripts.
	for _, m := range []struct {
		what      string
		got, want float64
	}{{"top-level", top / faster, 594.0 / 125}, {"with in-script", all / faster, 1296.0 / 125}} {
		if off := m.got/m.want - 1; off < -0.1 || off > 0.1 {
			t.Errorf("%s: %.2f commands/s, want %.2f within 10%%", m.what, m.got, m.want)
		}
	}
}

func TestTheProducerAddsWhatBullAdds(t *testing.T) {
	s, c := startEmbedded(t)
	l := attach(t, s, bullPace())
	q := l.queue("suggestion-generation")
	p := startProducer(t.Context(), q, time.Millisecond, 100)
	limit := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for p.count() < 5 {
		select {
		case <-limit:
			t.Fatal("no five jobs in 10s")
		case <-tick.C:
		}
	}
	ids, err := p.finish()
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	waiting := c.LRange(ctx, q.key("wait"), 0, -1).Val()
	if len(waiting) != len(ids) || waiting[len(waiting)-1] != ids[0] {
		t.Errorf("wait = %v, want the ids %v with the first at the right", waiting, ids)
	}
	job := c.HGetAll(ctx, q.key(ids[0])).Val()
	if job["data"] != `{"n":"live-1"}` || job["name"] != "__default__" || !strings.Contains(job["opts"], `"attempts":1`) {
		t.Errorf("job hash = %v", job)
	}
	c.HSet(ctx, q.key("meta"), "paused", "1")
	c.Set(ctx, q.key("meta-paused"), "1", 0)
	if err := p.add(ctx, 99); err != nil {
		t.Fatal(err)
	}
	if got := c.LLen(ctx, q.key("paused")).Val(); got != 1 {
		t.Errorf("paused holds %d jobs, want the one added while the queue is paused", got)
	}
}

func TestAStoppedWorkerLeavesTheOrdinaryClient(t *testing.T) {
	s, c := startEmbedded(t)
	l := attach(t, s, bullPace())
	if err := l.stopWorker("suggestion-generation"); err != nil {
		t.Fatal(err)
	}
	limit := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		list := c.ClientList(t.Context()).Val()
		if strings.Count(list, "addr="+appHost) == 34+poolSize {
			if strings.Contains(list, "c3VnZ2VzdGlvbi1nZW5lcmF0aW9u") {
				t.Errorf("CLIENT LIST still names the stopped worker:\n%s", list)
			}
			break
		}
		select {
		case <-limit:
			t.Fatalf("CLIENT LIST after 10s:\n%s", list)
		case <-tick.C:
		}
	}
	if err := l.stopWorker("no-such-queue"); err == nil {
		t.Error("stopping an unknown queue succeeded")
	}
}
