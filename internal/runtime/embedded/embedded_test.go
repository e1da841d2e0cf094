package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/proto"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/embedded"
)

// start runs an embedded Redis until the test ends.
func start(t *testing.T, opts embedded.Options) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(t.Context(), opts)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// dial opens a raw connection that is closed when the test ends.
func dial(t *testing.T, addr string) *proto.Client {
	t.Helper()
	c, err := proto.Dial(addr)
	if err != nil {
		t.Fatalf("dial %s: %v", addr, err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// do sends a command, written with spaces, and returns the reply without its type and line ends when
// it is a simple one, raw otherwise.
func do(t *testing.T, c *proto.Client, command string) string {
	t.Helper()
	reply, err := c.Do(strings.Fields(command)...)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	switch reply[0] {
	case '+', '-', ':':
		return strings.TrimSuffix(reply, "\r\n")
	case '$':
		_, body, _ := strings.Cut(strings.TrimSuffix(reply, "\r\n"), "\r\n")
		return body
	}
	return reply
}

// patience is how long a test waits for what is about to happen, on however busy a machine.
const patience = time.Minute

// eventually waits until what holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-limit:
			t.Fatalf("after %s still not: %s", patience, what)
		case <-tick.C:
		}
	}
}

func client(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: addr, PoolSize: 1, MaxRetries: -1, DisableIdentity: true, PipelinePoolSize: -1, ReadTimeout: patience, WriteTimeout: patience,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestServerIsVolatileAndSaysWhereItListens(t *testing.T) {
	s := start(t, embedded.Options{Plan: embedded.Plan{Name: "try"}})
	host, _, err := net.SplitHostPort(s.Addr())
	if err != nil || host != "127.0.0.1" {
		t.Errorf("Addr() = %q, want 127.0.0.1:port", s.Addr())
	}
	if got, want := s.URL(), "redis://"+s.Addr(); got != want {
		t.Errorf("URL() = %q, want %q", got, want)
	}
	if !s.Volatile() {
		t.Error("Volatile() = false, want true without a data directory")
	}
	d := s.Describe()
	if !d.Volatile || d.Plan.Name != "try" || len(d.Lacks) == 0 || !strings.Contains(strings.Join(d.Lacks, "\n"), "persistence") {
		t.Errorf("Describe() = %+v, want volatile, the plan, and what it lacks", d)
	}
	if got := client(t, s.Addr()).Ping(t.Context()).Val(); got != "PONG" {
		t.Errorf("PING = %q, want PONG", got)
	}
}

func TestOptionsThatAreRefusedSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		name string
		opts embedded.Options
		want []string
	}{
		{"every address", embedded.Options{Addr: ":6390"}, []string{"loopback only", "127.0.0.1:6390"}},
		{"all interfaces", embedded.Options{Addr: "0.0.0.0:0"}, []string{"loopback only"}},
		{"another host", embedded.Options{Addr: "redis.example.com:6379"}, []string{"loopback only", "no password"}},
		{"no port", embedded.Options{Addr: "127.0.0.1"}, []string{"want host:port"}},
		{"a port that is none", embedded.Options{Addr: "127.0.0.1:http"}, []string{"65535"}},
		{
			"all problems at once",
			embedded.Options{Addr: "x", Plan: embedded.Plan{MaxConnections: -1, MonthlyCommands: -2, Latency: -3}},
			[]string{"host:port", "max_connections: got -1", "monthly_commands: got -2", "latency: got -3ns"},
		},
		{"a plan on a real server", embedded.Options{DataDir: dir, Plan: embedded.Plan{MaxConnections: 3}}, []string{"leave one of them out"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := embedded.Start(t.Context(), tc.opts)
			if err == nil {
				_ = s.Close()
				t.Fatal("Start succeeded, want an error")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Start: %q, want it to contain %q", err, want)
				}
			}
		})
	}
}

func TestAnAddressInUseIsAnError(t *testing.T) {
	s := start(t, embedded.Options{})
	_, err := embedded.Start(t.Context(), embedded.Options{Addr: s.Addr()})
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:0") {
		t.Errorf("Start on a taken port: %v, want an error that names the way to a free port", err)
	}
}

func TestKeysExpireByThemselves(t *testing.T) {
	s := start(t, embedded.Options{})
	c := client(t, s.Addr())
	ctx := t.Context()
	began := time.Now()
	if err := c.Set(ctx, "k", "v", 150*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Eval(ctx, "redis.call('set', KEYS[1], 'x', 'PX', 150); redis.call('hset', KEYS[2], 'f', 'v'); redis.call('pexpire', KEYS[2], 150); return 1", []string{"s", "h"}).Err(); err != nil {
		t.Fatal(err)
	}
	c.Set(ctx, "stays", "v", 0)
	if got := c.Exists(ctx, "k", "s", "h", "stays").Val(); got != 4 && time.Since(began) < 100*time.Millisecond {
		t.Fatalf("EXISTS at once = %d, want 4", got)
	}
	eventually(t, "three keys expired", func() bool { return c.DBSize(ctx).Val() == 1 })
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("keys of 150ms were gone after %s", took)
	}
}

func TestTTLCountsDownInMilliseconds(t *testing.T) {
	s := start(t, embedded.Options{})
	c := client(t, s.Addr())
	ctx := t.Context()
	begins := time.Now()
	c.Set(ctx, "k", "v", time.Minute)
	began := time.Now()
	// On a busy machine time passes between the server's look at its clock and the test's, so each look is
	// compared with the times before and after it; a tick that was interrupted puts the next one off, so it is
	// right within 20 ms in the end, and never too short.
	eventually(t, "right within 20ms, 30ms later", func() bool {
		least := time.Since(began)
		left := c.PTTL(ctx, "k").Val()
		most := time.Since(begins)
		if left < time.Minute-most-2*time.Millisecond || left > time.Minute {
			t.Fatalf("PTTL = %s at most %s after it was set", left, most)
		}
		return least > 30*time.Millisecond && left <= time.Minute-least+20*time.Millisecond
	})
}

func TestTimeIsTheClockOnTheWall(t *testing.T) {
	s := start(t, embedded.Options{})
	c := client(t, s.Addr())
	ctx := t.Context()
	c.Set(ctx, "k", "v", time.Hour) // from here on the store's own clock stands still between ticks
	for range 20 {
		before := time.Now().Truncate(time.Microsecond)
		got := c.Time(ctx).Val()
		if got.Before(before) || got.After(time.Now()) {
			t.Fatalf("TIME = %s, want between %s and now", got, before)
		}
	}
	before := time.Now().Unix()
	secs, err := c.Eval(ctx, "return redis.call('time')[1]", nil).Int64()
	if now := time.Now().Unix(); err != nil || secs < before || secs > now {
		t.Errorf("TIME in a script = %d, %v, want %d to %d", secs, err, before, now)
	}
}

func TestConnectionCapRefusesWithTheProvidersText(t *testing.T) {
	s := start(t, embedded.Options{Plan: embedded.Plan{MaxConnections: 2}})
	a, b := dial(t, s.Addr()), dial(t, s.Addr())
	do(t, a, "PING")
	do(t, b, "PING")
	third := dial(t, s.Addr())
	if got, want := do(t, third, "PING"), "-ERR max concurrent connections exceeded"; got != want {
		t.Errorf("third connection: %q, want %q", got, want)
	}
	if reply, err := third.Do("PING"); err == nil {
		t.Errorf("refused connection answered %q, want it closed", reply)
	}
	if err := client(t, s.Addr()).Ping(t.Context()).Err(); err == nil {
		t.Error("go-redis on a full server: no error")
	}
	_ = b.Close()
	eventually(t, "a place free again", func() bool {
		c, err := proto.Dial(s.Addr())
		if err != nil {
			return false
		}
		defer c.Close()
		reply, err := c.Do("PING")
		return err == nil && reply == "+PONG\r\n"
	})
	if got := do(t, a, "INFO stats"); !strings.Contains(got, "rejected_connections:") || strings.Contains(got, "rejected_connections:0") {
		t.Errorf("INFO stats = %q, want rejected_connections counted", got)
	}
}

func TestQuotaRefusesBilledCommandsOnly(t *testing.T) {
	s := start(t, embedded.Options{Plan: embedded.Plan{MonthlyCommands: 5}})
	c := dial(t, s.Addr())
	do(t, c, "SET a 1") // 1
	do(t, c, "PING")
	do(t, c, "INFO")
	if _, err := c.Do("EVAL", "redis.call('incr', KEYS[1]); redis.call('incr', KEYS[1]); redis.call('incr', KEYS[1]); return 0", "1", "a"); err != nil {
		t.Fatal(err) // 4 more
	}
	if got := s.Billed(); got != 5 {
		t.Errorf("Billed() = %d, want 5: SET, EVAL and three INCR", got)
	}
	want := "-ERR max requests limit exceeded. Limit: 5, Usage: 5. See https://upstash.com/docs/redis/troubleshooting/max_requests_limit for details"
	for _, command := range []string{"GET a", "SET a 2", "CLIENT LIST", "SCAN 0", "MULTI", "PUBLISH c m"} {
		if got := do(t, c, command); got != want {
			t.Errorf("%s = %q, want %q", command, got, want)
		}
	}
	if got := do(t, c, "PING"); got != "+PONG" {
		t.Errorf("PING = %q, want +PONG: it is free", got)
	}
	if got := s.Billed(); got != 5 {
		t.Errorf("Billed() = %d after refusals, want 5", got)
	}
}

// TestWhoHasAReplyFindsItsCommandCounted looks from another connection: what one has had an answer to is counted
// and listed, in each of many tries.
func TestWhoHasAReplyFindsItsCommandCounted(t *testing.T) {
	s := start(t, embedded.Options{})
	watcher := dial(t, s.Addr())
	for i := range 300 {
		c := dial(t, s.Addr())
		do(t, c, "SUBSCRIBE ch")
		if got := do(t, watcher, "CLIENT LIST TYPE pubsub"); strings.Count(got, "\n") != 1 {
			t.Fatalf("try %d: after the reply to SUBSCRIBE, CLIENT LIST = %q", i, got)
		}
		if got, want := do(t, watcher, "INFO commandstats"), fmt.Sprintf("cmdstat_subscribe:calls=%d,", i+1); !strings.Contains(got, want) {
			t.Fatalf("after the reply to SUBSCRIBE, INFO commandstats = %q, want %q in it", got, want)
		}
		_ = c.Close()
		eventually(t, "it is gone", func() bool { return do(t, watcher, "CLIENT LIST TYPE pubsub") == "" })
	}
}

func TestAScriptThatHasBegunRunsToItsEnd(t *testing.T) {
	s := start(t, embedded.Options{Plan: embedded.Plan{MonthlyCommands: 2}})
	c := dial(t, s.Addr())
	if _, err := c.Do("EVAL", "for i = 1, 5 do redis.call('incr', KEYS[1]) end return redis.call('get', KEYS[1])", "1", "a"); err != nil {
		t.Fatal(err)
	}
	if got := do(t, c, "GET a"); !strings.Contains(got, "Limit: 2, Usage: 7.") {
		t.Errorf("GET after the script = %q, want usage above the limit", got)
	}
}

func TestATransactionOverTheQuotaChangesNothing(t *testing.T) {
	s := start(t, embedded.Options{Plan: embedded.Plan{MonthlyCommands: 2}})
	c, other := dial(t, s.Addr()), dial(t, s.Addr())
	do(t, c, "MULTI")
	do(t, c, "SET a 1")
	do(t, other, "SET b 1")
	do(t, other, "SET b 2")
	if got := do(t, c, "EXEC"); !strings.Contains(got, "max requests limit") {
		t.Errorf("EXEC = %q, want the quota's refusal", got)
	}
	if got := do(t, c, "EXEC"); !strings.Contains(got, "max requests") {
		t.Errorf("second EXEC = %q", got)
	}
	if got := do(t, other, "INFO keyspace"); !strings.Contains(got, "db0:keys=1,") {
		t.Errorf("INFO keyspace = %q, want only b", got)
	}
}

func TestLatencyIsAddedOncePerPipeline(t *testing.T) {
	const latency = 60 * time.Millisecond
	s := start(t, embedded.Options{Plan: embedded.Plan{Latency: latency}})
	c := client(t, s.Addr())
	ctx := t.Context()
	c.Ping(ctx)
	began := time.Now()
	c.Ping(ctx)
	if took := time.Since(began); took < latency {
		t.Errorf("PING took %s, want at least %s", took, latency)
	}
	began = time.Now()
	p := c.Pipeline()
	for range 1000 { // a minute, were it added to each
		p.Incr(ctx, "n")
	}
	if _, err := p.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < latency || took > 20*time.Second {
		t.Errorf("a pipeline of 1000 took %s, want about one latency", took)
	}
}

func TestCloseLeavesNothingRunning(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 3 {
		s, err := embedded.Start(t.Context(), embedded.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var conns []*proto.Client
		for range 4 {
			c, err := proto.Dial(s.Addr())
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
		}
		if _, err := conns[0].Do("SUBSCRIBE", "ch"); err != nil {
			t.Fatal(err)
		}
		blocked := make(chan struct{})
		go func() {
			defer close(blocked)
			_, _ = conns[1].Do("BLPOP", "q", "0")
		}()
		eventually(t, "the client blocks", func() bool {
			reply, err := conns[2].Do("INFO", "clients")
			return err == nil && strings.Contains(reply, "blocked_clients:1")
		})
		if _, err := conns[2].Do("EVAL", "redis.call('set', 'a', 1, 'PX', 5)", "0"); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("closing twice: %v", err)
		}
		<-blocked
		for _, c := range conns {
			_ = c.Close()
		}
		if _, err := net.DialTimeout("tcp", s.Addr(), time.Second); err == nil { //nolint:noctx // a probe of a closed port
			t.Error("the port still accepts connections")
		}
	}
	eventually(t, "all goroutines ended", func() bool { return runtime.NumGoroutine() <= before })
}

func TestAClientThatHangsUpWhileBlockedIsGoneAtOnce(t *testing.T) {
	s := start(t, embedded.Options{})
	watcher := dial(t, s.Addr())
	waiter, err := proto.Dial(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = waiter.Do("BRPOPLPUSH", "from", "to", "0")
	}()
	eventually(t, "blocked", func() bool { return strings.Contains(do(t, watcher, "INFO clients"), "blocked_clients:1") })
	_ = waiter.Close()
	<-done
	eventually(t, "gone", func() bool { return strings.Contains(do(t, watcher, "INFO clients"), "connected_clients:1") })
	do(t, watcher, "RPUSH from job")
	if got := do(t, watcher, "LLEN from"); got != ":1" {
		t.Errorf("LLEN from = %s, want :1: a client that hung up takes nothing", got)
	}
}

func TestWhatWasSentBeforeTheHangUpIsAnswered(t *testing.T) {
	s := start(t, embedded.Options{})
	var d net.Dialer
	nc, err := d.DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	if _, err := nc.Write([]byte("SET k v\r\n\r\nGET k\r\nBLPOP none 0\r\n")); err != nil {
		t.Fatal(err)
	}
	_ = nc.(*net.TCPConn).CloseWrite()
	var got strings.Builder
	buf := make([]byte, 256)
	for {
		n, err := nc.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			break
		}
	}
	if want := "+OK\r\n$1\r\nv\r\n"; got.String() != want {
		t.Errorf("replies = %q, want %q", got.String(), want)
	}
}

func TestASubscriberThatDoesNotReadHoldsUpNobody(t *testing.T) {
	s := start(t, embedded.Options{})
	lazy := dial(t, s.Addr())
	do(t, lazy, "SUBSCRIBE ch")
	c := client(t, s.Addr())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	message := strings.Repeat("x", 64<<10)
	for range 200 { // 12 MB, more than the sockets hold
		if err := c.Publish(ctx, "ch", message).Err(); err != nil {
			t.Fatalf("PUBLISH: %v", err)
		}
	}
	if got := c.Ping(ctx).Val(); got != "PONG" {
		t.Errorf("PING = %q, want PONG", got)
	}
}

func TestProtocolErrorsAreAnsweredAndClose(t *testing.T) {
	s := start(t, embedded.Options{})
	for _, tc := range []struct{ name, send, want string }{
		{"a count that is none", "*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
		{"too many arguments", "*99999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
		{"no bulk string", "*1\r\n:1\r\n", "-ERR Protocol error: expected '$', got ':'\r\n"},
		{"a negative length", "*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
		{"a length too large", "*1\r\n$999999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var d net.Dialer
			nc, err := d.DialContext(t.Context(), "tcp", s.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(patience))
			if _, err := nc.Write([]byte(tc.send)); err != nil {
				t.Fatal(err)
			}
			var got []byte
			buf := make([]byte, 256)
			for {
				n, err := nc.Read(buf)
				got = append(got, buf[:n]...)
				if err != nil {
					break
				}
			}
			if string(got) != tc.want {
				t.Errorf("answered %q, want %q and a closed connection", got, tc.want)
			}
		})
	}
}

func TestDataDirectoryWithoutRedisServerSaysWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := embedded.Start(t.Context(), embedded.Options{DataDir: t.TempDir()})
	if !errors.Is(err, embedded.ErrNoServer) || !strings.Contains(err.Error(), "install Redis") || !strings.Contains(err.Error(), "leave the data directory out") {
		t.Errorf("Start: %v, want ErrNoServer with what to do", err)
	}
}

func TestInfoShowsTheSectionsAskedFor(t *testing.T) {
	s := start(t, embedded.Options{})
	c := dial(t, s.Addr())
	for _, tc := range []struct {
		command string
		want    []string
	}{
		{"INFO", []string{"Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "Cpu", "Errorstats", "Cluster", "Keyspace"}},
		{"INFO commandstats", []string{"Commandstats"}},
		{"INFO clients stats", []string{"Clients", "Stats"}},
		{"INFO nonsense", nil},
	} {
		var got []string
		for line := range strings.SplitSeq(do(t, c, tc.command), "\r\n") {
			if section, ok := strings.CutPrefix(line, "# "); ok {
				got = append(got, section)
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: sections (-want +got):\n%s", tc.command, diff)
		}
	}
}

func TestASimulatedClientIsListedWhereItSaysItIs(t *testing.T) {
	s := start(t, embedded.Options{Plan: embedded.Plan{MaxConnections: 2}})
	nc, err := s.DialFrom("10.0.0.7:41000")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Write([]byte("CLIENT SETNAME far\r\n")); err != nil {
		t.Fatal(err)
	}
	if reply, err := bufio.NewReader(nc).ReadString('\n'); err != nil || reply != "+OK\r\n" {
		t.Fatalf("CLIENT SETNAME: %q, %v", reply, err)
	}
	watcher := dial(t, s.Addr())
	want := "addr=10.0.0.7:41000 laddr=" + s.Addr()
	if got := do(t, watcher, "CLIENT LIST"); !strings.Contains(got, want) || !strings.Contains(got, "name=far") {
		t.Errorf("CLIENT LIST = %q, want a line with %q", got, want)
	}
	refused, err := s.DialFrom("10.0.0.7:41001")
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Close()
	if reply, err := bufio.NewReader(refused).ReadString('\n'); err != nil || !strings.Contains(reply, "max concurrent connections") {
		t.Errorf("one connection too many: %q, %v", reply, err)
	}
	_ = nc.Close()
	eventually(t, "gone from the list", func() bool { return !strings.Contains(do(t, watcher, "CLIENT LIST"), "10.0.0.7:41000") })
	if _, err := s.DialFrom("somewhere"); err == nil {
		t.Error("DialFrom took an address that is none")
	}
}
