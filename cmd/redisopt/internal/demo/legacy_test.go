package demo

import (
	"bufio"
	"io"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
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

// commandsOf counts what the server ran while f did, by name.
func commandsOf(t *testing.T, c *redis.Client, f func()) map[string]int64 {
	t.Helper()
	if err := c.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	f()
	out := map[string]int64{}
	for line := range strings.SplitSeq(c.Info(t.Context(), "commandstats").Val(), "\r\n") {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !ok || name == "config|resetstat" {
			continue
		}
		digits, _, _ := strings.Cut(rest, ",")
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		out[name] = n
	}
	return out
}

// What the scripts of an idle queue call.
const (
	insideGuard   = 2
	insideStalled = 4
)

func TestTheScriptsOfAnIdleQueueCallWhatWasCountedInRealOnes(t *testing.T) {
	_, c := startEmbedded(t) // where nobody else sends anything
	for _, script := range []string{guardScript, stalledScript} {
		if err := c.ScriptLoad(t.Context(), script).Err(); err != nil {
			t.Fatal(err)
		}
	}
	q := &bullQueue{queueName: legacyQueues()[0]}
	for _, tc := range []struct {
		command []string
		want    map[string]int64
		inside  int
	}{
		{guardCommand(q), map[string]int64{"evalsha": 1, "zrangebyscore": 1, "zrange": 1}, insideGuard},
		{stalledCommand(q, time.Hour), map[string]int64{"evalsha": 1, "exists": 1, "set": 1, "smembers": 1, "lrange": 1}, insideStalled},
	} {
		got := commandsOf(t, c, func() {
			words := make([]any, len(tc.command))
			for i, word := range tc.command {
				words[i] = word
			}
			if err := c.Do(t.Context(), words...).Err(); err != nil {
				t.Error(err)
			}
		})
		if diff := cmp.Diff(tc.want, got); diff != "" || len(got) != tc.inside+1 {
			t.Errorf("%.20q (-want +got):\n%s", tc.command, diff)
		}
	}
}

// A silence is a Redis in which nothing ever comes. It counts what is sent, by name, scripts by their digest.
type silence struct {
	serving sync.WaitGroup

	mu   sync.Mutex
	sent map[string]int
}

// dial opens a connection to it.
func (s *silence) dial(string) (net.Conn, error) {
	near, far := net.Pipe()
	s.serving.Go(func() {
		defer func() { _ = far.Close() }()
		in := bufio.NewReader(far)
		for {
			words, err := readCommand(in)
			if err != nil {
				return
			}
			answer := "+OK\r\n"
			switch words[0] {
			case "EVALSHA":
				words[0] = words[1]
			case "BRPOPLPUSH":
				seconds, err := strconv.ParseFloat(words[3], 64)
				if err != nil {
					return
				}
				time.Sleep(time.Duration(seconds * float64(time.Second)))
				answer = "$-1\r\n"
			}
			s.mu.Lock()
			s.sent[words[0]]++
			s.mu.Unlock()
			if _, err := io.WriteString(far, answer); err != nil {
				return
			}
		}
	})
	return near, nil
}

// counts are what was sent so far.
func (s *silence) counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.sent)
}

// readCommand reads one command as wire sends it.
func readCommand(in *bufio.Reader) ([]string, error) {
	var words []string
	for left := 1; left > 0; left-- {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(strings.TrimSpace(line[1:]))
		if err != nil {
			return nil, err
		}
		if line[0] == '*' {
			left += n
			continue
		}
		word := make([]byte, n+len("\r\n"))
		if _, err := io.ReadFull(in, word); err != nil {
			return nil, err
		}
		words = append(words, string(word[:n]))
	}
	return words, nil
}

func TestAnIdleApplicationCostsWhatWasMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &silence{sent: map[string]int{}}
		l, err := startLegacy(t.Context(), s.dial, bullPace(), map[string]bool{"suggestion-generation": true})
		if err != nil {
			t.Fatal(err)
		}
		began := s.counts()
		time.Sleep(125 * time.Second)
		synctest.Wait()
		ended := s.counts()
		if err := l.close(); err != nil {
			t.Errorf("close: %v", err)
		}
		s.serving.Wait()
		count := func(name string) int { return ended[name] - began[name] }
		guards, checks := count(sha(guardScript)), count(sha(stalledScript))
		top := count("BRPOPLPUSH") + guards + checks
		// Measured on real Bull over 125s: 594 commands by themselves, 1,296 with those in scripts.
		for _, m := range []struct {
			what      string
			got, want int
		}{{"top-level", top, 594}, {"with in-script", top + insideGuard*guards + insideStalled*checks, 1296}} {
			if off := float64(m.got)/float64(m.want) - 1; off < -0.03 || off > 0.03 {
				t.Errorf("%s: %d commands in 125s, want %d within 3%%", m.what, m.got, m.want)
			}
		}
	})
}

func TestTheProducerAddsWhatBullAdds(t *testing.T) {
	s, c := startEmbedded(t)
	l := attach(t, s, bullPace())
	q := l.queue("suggestion-generation")
	p := startProducer(t.Context(), q, time.Millisecond, 100)
	limit := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for p.count() < 5 {
		select {
		case <-limit:
			t.Fatal("no five jobs in a minute")
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
	limit := time.After(time.Minute)
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
			t.Fatalf("CLIENT LIST after a minute:\n%s", list)
		case <-tick.C:
		}
	}
	if err := l.stopWorker("no-such-queue"); err == nil {
		t.Error("stopping an unknown queue succeeded")
	}
}
