package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// fill writes an application's keys: sessions and cache with expiry, one cache key in ten without, numbers, two
// kinds of text, a queue, a limiter with analytics, and one large list.
func fill(t *testing.T, rdb redis.UniversalClient) {
	t.Helper()
	ctx := t.Context()
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 2000 {
			p.Set(ctx, fmt.Sprintf("cache:user:%d", i), `{"name":"secret-value","n":[1,2,3]}`, expiry(i))
		}
		for i := range 500 {
			p.Set(ctx, fmt.Sprintf("flag:%d", i), i, 0)
			v := `{"a":1}`
			if i%2 == 0 {
				v = "plain words"
			}
			p.Set(ctx, fmt.Sprintf("note:%d", i), v, 0)
			p.HSet(ctx, fmt.Sprintf("bull:mail:%d", i), "name", "send", "data", "{}")
			p.ZAdd(ctx, "bull:mail:completed", redis.Z{Score: float64(i), Member: i})
		}
		for i := range 2500 {
			p.ZAdd(ctx, "@upstash/ratelimit:events:490000", redis.Z{Score: 1, Member: fmt.Sprint(i)})
			p.ZAdd(ctx, "bull:mail:failed", redis.Z{Score: float64(i), Member: i})
			p.RPush(ctx, "audit-log:all", strings.Repeat("x", 100))
		}
		p.Set(ctx, "bull:mail:id", 500, 0)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func expiry(i int) time.Duration {
	if i%10 == 0 {
		return 0
	}
	return time.Hour
}

func rules(found []inspect.Finding) string {
	var all []string
	for _, f := range found {
		all = append(all, fmt.Sprintf("%s %s %s: %s", f.Severity, f.Rule, f.Subject, f.Message))
	}
	return strings.Join(all, "\n")
}

// commandsOf counts what a server ran, by command.
func commandsOf(t *testing.T, rdb redis.UniversalClient) map[string]string {
	t.Helper()
	text, err := rdb.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]string{}
	for line := range strings.SplitSeq(text, "\r\n") {
		if name, rest, found := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls="); found {
			calls[name], _, _ = strings.Cut(rest, ",")
		}
	}
	return calls
}

func TestAnAuditOfKeysReadsOnlyAndStaysInItsBudget(t *testing.T) {
	server := redistest.Start(t, "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru")
	rdb := server.Client(t)
	fill(t, rdb)
	if err := rdb.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	r, err := Audit(t.Context(), rdb, Options{Idle: true, RequestLimit: 200_000})
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{
		"info", "dbsize", "scan", "type", "pttl", "memory|usage", "object|idletime", "getrange",
		"hlen", "llen", "scard", "zcard", "xlen", "config|resetstat",
	}
	total := 0
	for name, n := range commandsOf(t, rdb) {
		if !slices.Contains(allowed, name) {
			t.Errorf("the audit sent %s", name)
		}
		if name != "config|resetstat" {
			total += int(integer(n))
		}
	}
	if total != r.Sent || r.Sent > DefaultBudget || r.Sent > r.Estimate.Commands {
		t.Errorf("sent %d, the server counted %d, estimate %d, budget %d", r.Sent, total, r.Estimate.Commands, DefaultBudget)
	}
	if !r.Complete || r.Names != 3505 || len(r.Missing) != 0 {
		t.Errorf("%d names, complete %v, missing %v", r.Names, r.Complete, r.Missing)
	}
	for _, want := range []string{
		"warning queue-eviction bull:mail", "warning limiter-analytics @upstash/ratelimit:events:490000",
		"warning finished-jobs-kept bull:mail:failed", "note grows-without-end audit-log:all", "note full-read-over-limit audit-log:all",
	} {
		if !strings.Contains(rules(r.Findings), want) {
			t.Errorf("no finding %q in\n%s", want, rules(r.Findings))
		}
	}
}

func TestWithMoreCommandsTheSharesAreRight(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	fill(t, rdb)
	r, err := Audit(t.Context(), rdb, Options{Budget: 3000})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Prefixes {
		t.Logf("%s (%s): %s of keys, %v, no ttl %s", p.Name, p.Family, p.Share, p.Types, p.NoTTL)
		if p.Name != "cache:user" {
			continue
		}
		// Of about 400 keys the share is off by 1.5% as a rule; its interval misses the truth once in twenty runs.
		if math.Abs(*p.NoTTL.Value-0.1) > 0.06 || *p.Share.Value < 0.57 || *p.Share.Value > 0.571 {
			t.Errorf("cache:user: no ttl %s, want about 10%%; share %s, want 57.06%%", p.NoTTL, p.Share)
		}
	}
	for _, want := range []string{"warning missing-ttl cache:user", "warning mixed-formats note", "note type-changes flag"} {
		if !strings.Contains(rules(r.Findings), want) {
			t.Errorf("no finding %q in\n%s", want, rules(r.Findings))
		}
	}
	if text := fmt.Sprintf("%+v", r); strings.Contains(text, "secret-value") || strings.Contains(text, "plain words") {
		t.Error("the report shows a value")
	}
}

func TestOnlyKeysOfThePrefixAreLookedAt(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	for _, name := range []string{"a*:1", "a*", "a*b:1", "ab:1"} {
		rdb.Set(t.Context(), name, "x", 0)
	}
	r, err := Audit(t.Context(), rdb, Options{Prefix: "a*"})
	if err != nil || r.Names != 2 {
		t.Errorf("%d names, %v, want a*:1 and a*", r.Names, err)
	}
	r, err = Audit(t.Context(), rdb, Options{Match: "a?:*"})
	if err != nil || r.Names != 2 {
		t.Errorf("%d names, %v, want a*:1 and ab:1", r.Names, err)
	}
}

func TestAClusterIsReadNodeByNode(t *testing.T) {
	server := redistest.Start(t, "--cluster-enabled", "yes")
	admin := server.Client(t)
	if err := admin.Do(t.Context(), "cluster", "addslotsrange", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		text, err := admin.ClusterInfo(t.Context()).Result()
		if err == nil && strings.Contains(text, "cluster_state:ok") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no cluster after a minute: %s, %v", text, err)
		}
	}
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{server.Addr}, DisableIdentity: true, DialTimeout: time.Minute, ReadTimeout: time.Minute})
	t.Cleanup(func() { _ = rdb.Close() })
	fill(t, rdb)
	r, err := Audit(t.Context(), rdb, Options{})
	if err != nil || r.Keys != 3505 || !r.Complete || r.Detailed == 0 || r.Sent > DefaultBudget {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAnEmptyDatabaseIsNoProblem(t *testing.T) {
	r, err := Audit(t.Context(), redistest.Start(t).Client(t), Options{})
	if err != nil || r.Keys != 0 || len(r.Prefixes) != 0 || len(r.Findings) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A lesser server refuses commands, or scans in the order of names.
type lesser struct {
	without []string
	sorted  bool
}

type unavailable string

func (e unavailable) Error() string { return "ERR Command is not available: '" + string(e) + "'" }
func (e unavailable) RedisError()   {}

func (l lesser) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l lesser) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if slices.Contains(l.without, cmd.Name()) {
			cmd.SetErr(unavailable(cmd.Name()))
			return cmd.Err()
		}
		err := next(ctx, cmd)
		if page, ok := cmd.(*redis.ScanCmd); ok && l.sorted && err == nil {
			names, _ := page.Val()
			slices.Sort(names)
			page.SetVal(names, 7)
		}
		return err
	}
}

func (l lesser) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var there []redis.Cmder
		for _, cmd := range cmds {
			if slices.Contains(l.without, cmd.Name()) {
				cmd.SetErr(unavailable(cmd.Name()))
			} else {
				there = append(there, cmd)
			}
		}
		if len(there) > 0 {
			if err := next(ctx, there); err != nil {
				return err
			}
		}
		return cmds[0].Err()
	}
}

func TestWhatAServerLacksIsNotObservableAndNoFinding(t *testing.T) {
	server := redistest.Start(t)
	fill(t, server.Client(t))
	rdb := server.Client(t)
	rdb.AddHook(lesser{without: []string{"memory", "object"}})
	r, err := Audit(t.Context(), rdb, Options{Idle: true, Budget: 2000})
	if err != nil {
		t.Fatal(err)
	}
	missing := strings.Join(r.Missing, "\n")
	if r.SizeFrom != "elements" || len(r.Missing) != 2 || !strings.Contains(missing, "MEMORY USAGE") || !strings.Contains(missing, "OBJECT IDLETIME") {
		t.Errorf("sizes from %s, missing %q", r.SizeFrom, missing)
	}
	if r.Sent > 2000 {
		t.Errorf("sent %d of 2000", r.Sent)
	}
	// 2,500 elements of 100 bytes, each with about 6 of its frame.
	if b := r.Biggest[0]; b.Name != "audit-log:all" || *b.Bytes != 265_000 {
		t.Errorf("biggest is %s with %d bytes, want audit-log:all with 265000", b.Name, deref(b.Bytes))
	}
}

func TestWhereScanGoesByNameOrIsRefusedNamesAreDrawn(t *testing.T) {
	server := redistest.Start(t)
	fill(t, server.Client(t))
	for name, l := range map[string]lesser{"sorted": {sorted: true}, "refused": {without: []string{"scan"}}} {
		t.Run(name, func(t *testing.T) {
			rdb := server.Client(t)
			rdb.AddHook(l)
			if l.sorted {
				rdb.AddHook(onePage{})
			}
			r, err := Audit(t.Context(), rdb, Options{Budget: 400})
			if err != nil {
				t.Fatal(err)
			}
			if r.NamesFrom != "RANDOMKEY" || r.Names != 100 || r.Complete || len(r.Notes) != 1 || r.Sent > 400 {
				t.Errorf("from %s, %d names, complete %v, notes %q, sent %d", r.NamesFrom, r.Names, r.Complete, r.Notes, r.Sent)
			}
		})
	}
}

// onePage ends the names of later pages, so that those of the first stay in order.
type onePage struct{}

func (onePage) DialHook(next redis.DialHook) redis.DialHook { return next }

func (onePage) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (onePage) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if page, ok := cmd.(*redis.ScanCmd); ok && fmt.Sprint(cmd.Args()[1]) != "0" && err == nil {
			page.SetVal(nil, 7)
		}
		return err
	}
}

func TestADumpIsReadByAServerThatIsGoneAfterwards(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client(t)
	fill(t, rdb)
	if err := rdb.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(server.Dir, "dump.rdb")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Load(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Audit(t.Context(), d.Client(), Options{Budget: 50_000})
	if err != nil {
		t.Fatal(err)
	}
	if d.Keys != 3505 || r.Keys != 3505 || r.Detailed != 3505 {
		t.Errorf("%d loaded, %d there, %d in detail, want 3505 of each", d.Keys, r.Keys, r.Detailed)
	}
	if err := redis.NewClient(&redis.Options{Addr: d.addr, MaxRetries: -1}).Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("without the password: %v, want NOAUTH", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(d.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", d.dir, err)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the dump changed: %v", err)
	}
	for _, c := range []struct {
		name, want string
		bytes      []byte
	}{
		{"cut short", "cut short", before[:len(before)/2]},
		{"newer", "RDB version 9999", append([]byte("REDIS9999"), before[9:]...)},
		{"of another program", "no RDB file", []byte("SQLite format 3")},
		{"empty", "no RDB file", nil},
		{"with one bit turned", "checksum", turned(before)},
	} {
		t.Run("a dump "+c.name, func(t *testing.T) {
			bad := filepath.Join(t.TempDir(), "bad.rdb")
			if err := os.WriteFile(bad, c.bytes, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(t.Context(), bad)
			if problem, ok := errors.AsType[*DumpError](err); !ok || !strings.Contains(problem.Reason, c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// turned is b with its checksum changed.
func turned(b []byte) []byte {
	c := bytes.Clone(b)
	c[len(c)-1] ^= 1
	return c
}

func TestWithoutARedisServerADumpIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dump.rdb")
	if err := os.WriteFile(file, []byte("REDIS0010"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Load(t.Context(), file); !errors.Is(err, ErrNoServer) {
		t.Errorf("error %v, want ErrNoServer", err)
	}
}

func TestALoadEndsWithItsContext(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dump.rdb")
	if err := os.WriteFile(file, []byte("REDIS0010"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d, err := Load(ctx, file)
	if d != nil {
		_ = d.Close()
	}
	if err == nil {
		t.Error("a cancelled load succeeded")
	}
}
