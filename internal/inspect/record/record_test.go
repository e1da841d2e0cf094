package record_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/inspect/record"
	"github.com/redisopt/redisopt/internal/runtime/embedded"
)

func upstash() record.Provider {
	return record.Provider{
		Name: "upstash", BillsInScript: true,
		Free: []string{"auth", "hello", "select", "command", "config", "info", "ping", "reset", "quit"},
	}
}

// start records in front of an embedded Redis.
func start(t *testing.T, change func(*record.Options)) (*record.Recorder, *embedded.Server) {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	o := record.Options{
		Provider: upstash(), InScript: server.InScript,
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", server.Addr())
		},
	}
	if change != nil {
		change(&o)
	}
	r, err := record.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, server
}

func client(t *testing.T, addr string, change func(*redis.Options)) *redis.Client {
	t.Helper()
	o := &redis.Options{Addr: addr, MaxRetries: -1, PipelinePoolSize: -1, PoolSize: 4, DialTimeout: time.Minute, ReadTimeout: time.Minute}
	if change != nil {
		change(o)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// idleSoon waits until nobody is connected, so that everything is booked.
func idleSoon(t *testing.T, r *record.Recorder) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for r.Open() > 0 {
		select {
		case <-deadline:
			t.Fatal("a connection does not end")
		case <-look.C:
		}
	}
}

func test(t *testing.T, r *record.Report, name string) record.Test {
	t.Helper()
	for _, have := range r.Tests {
		if have.Name == name {
			return have
		}
	}
	t.Fatalf("no test %q in %+v", name, r.Tests)
	return record.Test{}
}

func TestCountsEqualThoseOfTheServer(t *testing.T) {
	r, server := start(t, nil)
	for _, protocol := range []int{2, 3} {
		c := client(t, r.Addr(), func(o *redis.Options) { o.Protocol = protocol })
		var all sync.WaitGroup
		for w := range 4 {
			all.Go(func() { load(t, c, w) })
		}
		all.Wait()
		_ = c.Close()
	}
	idleSoon(t, r)
	direct := client(t, server.Addr(), nil)
	stats, err := direct.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{}
	all := int64(0)
	for _, m := range regexp.MustCompile(`(?m)^cmdstat_([^:]+):calls=(\d+),.*rejected_calls=(\d+)`).FindAllStringSubmatch(stats, -1) {
		calls, _ := strconv.ParseInt(m[2], 10, 64)
		rejected, _ := strconv.ParseInt(m[3], 10, 64)
		want[m[1]] = calls + rejected
		all += calls + rejected
	}
	rep := r.Report()
	got := int64(0)
	for _, c := range rep.Commands {
		got += c.Sent + c.InScript
		// go-redis' own connections to the server itself are in the statistics, too.
		if strings.Contains(c.Command, "hello") || strings.Contains(c.Command, "client|") || strings.Contains(c.Command, "eval") ||
			c.Command == "nosuchcommand" { // which the server does not count
			continue
		}
		inner := map[string]int64{"incr": 160, "get": 80}[c.Command]
		if c.Sent+inner != want[c.Command] {
			t.Errorf("%s: recorded %d and %d in scripts, the server says %d", c.Command, c.Sent, inner, want[c.Command])
		}
	}
	if rep.Total.Sent+rep.Total.InScript != got || rep.Total.InScript != 240 {
		t.Errorf("total %+v, sum of commands %d, want 240 in scripts", rep.Total, got)
	}
	if rep.Total.Work+rep.Total.Idle+rep.Total.Setup != got {
		t.Errorf("work, idle and setup of %+v are not all of %d", rep.Total, got)
	}
}

// load runs 10 rounds: 30 commands in scripts, 20 of them INCR.
func load(t *testing.T, c *redis.Client, worker int) {
	ctx := t.Context()
	script := redis.NewScript("redis.call('incr',KEYS[1]) redis.call('incr',KEYS[1]) return redis.call('get',KEYS[1])")
	for i := range 10 {
		key := fmt.Sprintf("user:%d:%d", worker, i)
		if err := c.Set(ctx, key, strings.Repeat("x", 20_000), 0).Err(); err != nil {
			t.Error(err)
		}
		if got, err := c.Get(ctx, key).Result(); err != nil || len(got) != 20_000 {
			t.Errorf("GET: %d bytes, %v", len(got), err)
		}
		if err := script.Run(ctx, c, []string{"count:" + key}).Err(); err != nil {
			t.Error(err)
		}
		pipe := c.Pipeline()
		for range 20 {
			pipe.HSet(ctx, "h:"+key, "a", 1)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			t.Error(err)
		}
		tx := c.TxPipeline()
		tx.LPush(ctx, "l:"+key, 1)
		tx.LRange(ctx, "l:"+key, 0, -1)
		if _, err := tx.Exec(ctx); err != nil {
			t.Error(err)
		}
		_ = c.Do(ctx, "nosuchcommand").Err()
		_ = c.LPush(ctx, key, 1).Err()
	}
}

func TestAMarkNamesTheTestAndCostsNothing(t *testing.T) {
	r, server := start(t, nil)
	c := client(t, r.Addr(), nil)
	ctx := t.Context()
	for run, n := range []int{2, 3} {
		if got, err := c.Echo(ctx, "redisopt:test:GET /users").Result(); err != nil || got != "redisopt:test:GET /users" {
			t.Fatalf("mark: %q, %v", got, err)
		}
		for range n {
			c.Get(ctx, "user:"+strconv.Itoa(run))
		}
		c.Echo(ctx, "redisopt:test:")
	}
	c.Get(ctx, "elsewhere")
	c.Echo(ctx, "an ordinary one")
	_ = c.Close()
	idleSoon(t, r)
	rep := r.Report()
	got := test(t, rep, "GET /users")
	if got.Runs != 2 || got.BilledWork != 5 || got.MaxPerRun != 3 {
		t.Errorf("got %+v, want 2 runs of 2 and 3 commands", got)
	}
	if rest := test(t, rep, ""); rest.BilledWork != 1 {
		t.Errorf("outside of tests: %+v, want the one GET as work", rest)
	}
	direct := client(t, server.Addr(), nil)
	stats, _ := direct.Info(ctx, "commandstats").Result()
	if !strings.Contains(stats, "cmdstat_echo:calls=1,") {
		t.Errorf("marks reached the server:\n%s", stats)
	}
}

func TestAMarkInAPipelineIsAnsweredInItsPlace(t *testing.T) {
	r, _ := start(t, nil)
	nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_, err = io.WriteString(nc, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"+
		"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$23\r\nredisopt:test:one%20two\r\n"+
		"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$4\r\nECHO\r\n$14\r\nredisopt:test:\r\nGET a\r\n")
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(nc)
	for _, want := range []string{"+OK", "+OK", "$1", "1", "$14", "redisopt:test:", "$1", "1"} {
		line, err := in.ReadString('\n')
		if got := strings.TrimSpace(line); err != nil || got != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	_ = nc.Close()
	idleSoon(t, r)
	if got := test(t, r.Report(), "one two"); got.Sent != 1 {
		t.Errorf("got %+v, want 1 command", got)
	}
}

func TestMarksReachAsFarAsTheySay(t *testing.T) {
	r, _ := start(t, nil)
	ctx := t.Context()
	one := client(t, r.Addr(), func(o *redis.Options) { o.PoolSize = 1 })
	two := client(t, r.Addr(), func(o *redis.Options) { o.PoolSize = 1 })
	one.Echo(ctx, "redisopt:test/all:everything")
	two.Get(ctx, "a")
	one.Echo(ctx, "redisopt:test:process")
	two.Get(ctx, "a")
	one.Echo(ctx, "redisopt:test/conn:connection")
	one.Get(ctx, "a")
	two.Get(ctx, "a")
	one.Echo(ctx, "redisopt:source/conn:worker")
	one.Get(ctx, "a")
	two.Echo(ctx, "redisopt:source:api")
	two.Get(ctx, "a")
	_, _ = one.Close(), two.Close()
	idleSoon(t, r)
	rep := r.Report()
	for name, want := range map[string]int64{"everything": 1, "process": 3, "connection": 2} {
		if got := test(t, rep, name); got.Work != want {
			t.Errorf("%s: %d commands, want %d", name, got.Work, want)
		}
	}
	sources := map[string]int64{}
	for _, s := range rep.Sources {
		sources[s.Name] = s.Work
	}
	if sources["worker"] != 1 || sources["api"] != 1 {
		t.Errorf("sources %v, want one command each of worker and api", sources)
	}
}

func TestTheUserOfTheURLNamesTheSourceAndNeedsNoPassword(t *testing.T) {
	r, _ := start(t, nil)
	for _, protocol := range []int{2, 3} {
		c := client(t, r.Addr(), func(o *redis.Options) {
			o.Protocol, o.Username, o.Password, o.ClientName = protocol, "billing", "x", "worker-1"
		})
		if err := c.Set(t.Context(), "a", 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	idleSoon(t, r)
	rep := r.Report()
	if len(rep.Sources) == 0 || rep.Sources[0].Name != "billing" || rep.Sources[0].Named != "user" || rep.Sources[0].Work != 2 {
		t.Errorf("sources %+v, want billing with 2 commands", rep.Sources)
	}
	if len(rep.Clients) != 1 || rep.Clients[0].Name != "worker-1" || !strings.Contains(rep.Clients[0].Library, "go-redis") {
		t.Errorf("clients %+v, want worker-1 of go-redis", rep.Clients)
	}
}

func TestPollingThatFindsNothingIsIdle(t *testing.T) {
	r, _ := start(t, nil)
	c := client(t, r.Addr(), nil)
	ctx := t.Context()
	c.BRPop(ctx, 10*time.Millisecond, "none")
	c.LPush(ctx, "some", 1)
	c.BRPop(ctx, time.Second, "some")
	c.Ping(ctx)
	c.Eval(ctx, "return 0", []string{"bull:mail:stalled", "bull:mail:wait"})
	_ = c.Close()
	idleSoon(t, r)
	if got := r.Report().Total; got.Idle != 3 || got.Work != 2 {
		t.Errorf("got %+v, want 3 idle and 2 work", got)
	}
}

func TestSubscribersAreCarriedAndCounted(t *testing.T) {
	r, _ := start(t, nil)
	for _, protocol := range []int{2, 3} {
		c := client(t, r.Addr(), func(o *redis.Options) { o.Protocol = protocol })
		channel := "a" + strconv.Itoa(protocol) // to that of the client before, the server may still be subscribed for a while
		sub := c.Subscribe(t.Context(), channel, "b")
		for range 2 {
			if _, err := sub.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 3 {
			if n, err := c.Publish(t.Context(), channel, i).Result(); err != nil || n != 1 {
				t.Fatalf("publish: %d, %v", n, err)
			}
			if m, err := sub.ReceiveMessage(t.Context()); err != nil || m.Payload != strconv.Itoa(i) {
				t.Fatalf("got %v, %v", m, err)
			}
		}
		if err := sub.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, _ = sub.Close(), c.Close()
	}
	idleSoon(t, r)
	for _, c := range r.Report().Commands {
		if want := map[string]int64{"subscribe": 2, "publish": 6}[c.Command]; want > 0 && c.Sent != want {
			t.Errorf("%s: %d, want %d", c.Command, c.Sent, want)
		}
	}
}

func TestWhatDoesNotFitIsBookedAsOther(t *testing.T) {
	r, _ := start(t, func(o *record.Options) { o.MaxRows, o.Top = 16, 5 })
	c := client(t, r.Addr(), nil)
	ctx := t.Context()
	for i := range 60 {
		c.Echo(ctx, fmt.Sprintf("redisopt:test:number %d", i))
		c.Get(ctx, fmt.Sprintf("kind%c%c:1", 'a'+i/26, 'a'+i%26))
	}
	_ = c.Close()
	idleSoon(t, r)
	rep := r.Report()
	if len(rep.Tests) > 18 || test(t, rep, "(other)").Runs != 44 {
		t.Errorf("%d tests, other %+v", len(rep.Tests), test(t, rep, "(other)"))
	}
	sum := int64(0)
	for _, p := range rep.Prefixes {
		sum += p.Sent
	}
	if len(rep.Prefixes) != 6 || rep.Prefixes[5].Prefix != "(other)" || sum != rep.Total.Sent {
		t.Errorf("prefixes %+v, which are %d of %d", rep.Prefixes, sum, rep.Total.Sent)
	}
}

func TestMaxCommandsAnswersWithAnError(t *testing.T) {
	r, _ := start(t, func(o *record.Options) { o.MaxCommands = 5 })
	c := client(t, r.Addr(), func(o *redis.Options) { o.DisableIdentity, o.Protocol = true, 2 })
	var last error
	for range 10 {
		last = c.Set(t.Context(), "a", 1, 0).Err()
	}
	if last == nil || !strings.Contains(last.Error(), "the recording stops at 5 commands") {
		t.Errorf("got %v, want the end of the recording", last)
	}
	if got := r.Report().Total.Sent; got != 5 || !r.Exceeded() {
		t.Errorf("%d commands passed on, exceeded %t", got, r.Exceeded())
	}
}

func TestNobodyConnectedIsAFinding(t *testing.T) {
	r, _ := start(t, nil)
	rep := r.Report()
	if len(rep.Findings) != 1 || rep.Findings[0].Rule != "never-connected" || !strings.Contains(rep.Findings[0].Remedy, "REDIS_URL") {
		t.Errorf("got %+v", rep.Findings)
	}
}

func TestARedisThatIsGoneRefusesTheClient(t *testing.T) {
	r, _ := start(t, func(o *record.Options) {
		o.Dial = func(context.Context) (net.Conn, error) { return nil, errors.New("gone") }
	})
	c := client(t, r.Addr(), nil)
	if err := c.Ping(t.Context()).Err(); err == nil {
		t.Error("PING was answered")
	}
	if rep := r.Report(); rep.Connections.Refused == 0 || len(rep.Findings) != 0 {
		t.Errorf("got %+v, %v", rep.Connections, rep.Findings)
	}
}

func TestAPortThatIsTakenIsSaid(t *testing.T) {
	r, _ := start(t, nil)
	_, err := record.Start(t.Context(), record.Options{Listen: r.Addr(), Dial: func(context.Context) (net.Conn, error) { return nil, nil }})
	if taken, ok := errors.AsType[*record.ListenError](err); !ok || taken.Addr != r.Addr() {
		t.Errorf("got %v", err)
	}
}

func TestOptionsThatCannotBeAreAllReported(t *testing.T) {
	_, err := record.Start(t.Context(), record.Options{Listen: "0.0.0.0:6379", MaxCommands: -1, MaxRows: 1, Top: -1})
	for _, want := range []string{"dial", "loopback", "max_commands", "max_rows", "top"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}
