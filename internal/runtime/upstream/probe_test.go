package upstream_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func probe(t *testing.T, u *upstream.Upstream) upstream.Capabilities {
	t.Helper()
	c, err := u.Probe(t.Context())
	if err != nil {
		t.Fatalf("Probe: %v", err)
	}
	return c
}

// bulk is text as a RESP bulk string.
func bulk(text string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text) }

func TestProbe(t *testing.T) {
	t.Run("a real redis-server with all rights, for four commands", func(t *testing.T) {
		s := redistest.Start(t, "--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb", "--maxclients", "77")
		u := open(t, upstream.Options{URL: s.URL()})
		before := u.Spent()
		got := probe(t, u)
		if n := u.Spent().Commands - before.Commands; n != 4 {
			t.Errorf("cost %d commands, want 4", n)
		}
		if got.Version == "" || got.Version != got.RedisVersion || got.ConnectedClients < 1 {
			t.Errorf("version %q, redis_version %q, %d clients", got.Version, got.RedisVersion, got.ConnectedClients)
		}
		want := upstream.Capabilities{
			Kind: upstream.KindRedis, Mode: "standalone", Role: "master", MaxMemoryPolicy: "allkeys-lru", MaxMemoryBytes: 100 << 20, MaxClients: 77,
			Info: true, CommandStats: true, ClientList: true, Scripts: true, Blocking: true, Missing: []string{},
		}
		ignore := cmpopts.IgnoreFields(upstream.Capabilities{}, "Version", "RedisVersion", "ConnectedClients", "Fields")
		if diff := cmp.Diff(want, got, ignore); diff != "" {
			t.Errorf("Probe (-want +got):\n%s", diff)
		}
		if keys := s.Client(t).DBSize(t.Context()).Val(); keys != 0 {
			t.Errorf("left %d keys", keys)
		}
	})

	t.Run("it is allowed in read-only mode and changes nothing", func(t *testing.T) {
		s := redistest.Start(t)
		u := open(t, upstream.Options{URL: s.URL(), ReadOnly: true})
		got := probe(t, u)
		if !got.Scripts || !got.Blocking || !got.ClientList || u.Spent().Writes != 0 {
			t.Errorf("got %+v with %d writes, want everything with none", got, u.Spent().Writes)
		}
	})

	t.Run("a user who may only read data is told what is missing", func(t *testing.T) {
		s := redistest.Start(t)
		if err := s.Client(t).Do(t.Context(), "acl", "setuser", "reader", "on", ">"+secret, "~app:*", "+@read", "+ping").Err(); err != nil {
			t.Fatal(err)
		}
		u := open(t, upstream.Options{URL: "redis://" + s.Addr, Username: "reader", Password: secret})
		got := probe(t, u)
		if got.Info || got.ClientList || got.Scripts || got.CommandStats {
			t.Errorf("got %+v, want nothing but reading", got)
		}
		if got.Kind != upstream.KindRedis || got.Version == "" || got.Role != "master" {
			t.Errorf("kind %s, version %q, role %q: HELLO says them", got.Kind, got.Version, got.Role)
		}
		if !got.Blocking {
			t.Error("Blocking = false, but XREAD is allowed on other keys")
		}
		all := strings.Join(got.Missing, "\n")
		for _, want := range []string{"INFO", "CLIENT LIST", "scripts", "NOPERM"} {
			if !strings.Contains(all, want) {
				t.Errorf("Missing does not say %q: %s", want, all)
			}
		}
	})

	t.Run("a replica is read-only", func(t *testing.T) {
		s := redistest.Start(t)
		port := strings.TrimPrefix(s.Addr, "127.0.0.1:")
		r := redistest.Start(t, "--replicaof", "127.0.0.1 "+port)
		u := open(t, upstream.Options{URL: r.URL()})
		if got := probe(t, u); got.Role != "slave" || !got.ReadOnlyReplica {
			t.Errorf("role %q, read-only %t", got.Role, got.ReadOnlyReplica)
		}
		err := u.Client().Set(t.Context(), "k", "v", 0).Err()
		if got := upstream.Classify(err); got != upstream.Permission {
			t.Errorf("SET on a replica: class %s, want %s", got, upstream.Permission)
		}
	})

	t.Run("Upstash by its version, without command counts", func(t *testing.T) {
		addr := listen(t, resp(func(args []string) string {
			switch strings.ToLower(args[0]) {
			case "hello":
				return "-ERR unknown command 'HELLO'\r\n"
			case "ping":
				return "+PONG\r\n"
			case "info":
				return bulk("# Server\r\nupstash_version:1.2.3\r\nredis_version:8.2.0\r\nredis_mode:standalone\r\n# Clients\r\nmaxclients:10000\r\nconnected_clients:5\r\n")
			case "evalsha":
				return "-NOSCRIPT No matching script. Please use EVAL.\r\n"
			case "xread":
				return "*-1\r\n"
			}
			return "-ERR Command is not available: 'CLIENT'. See https://upstash.com/docs/redis/overall/rediscompatibility for details\r\n"
		}))
		got := probe(t, open(t, upstream.Options{URL: "redis://" + addr}))
		if got.Kind != upstream.KindUpstash || got.Version != "1.2.3" || got.RedisVersion != "8.2.0" || got.MaxClients != 10_000 {
			t.Errorf("got %+v", got)
		}
		if got.CommandStats || got.ClientList || !got.Scripts || !got.Blocking || len(got.Missing) != 2 {
			t.Errorf("got %+v, want scripts and blocking only, two lines missing", got)
		}
	})

	t.Run("Valkey by its name", func(t *testing.T) {
		addr := listen(t, resp(func(args []string) string {
			if strings.ToLower(args[0]) == "hello" {
				return "-ERR unknown command 'HELLO'\r\n"
			}
			if strings.ToLower(args[0]) == "info" {
				return bulk("server_name:valkey\r\nvalkey_version:8.1.0\r\nredis_version:7.2.4\r\nmaxclients:1\r\ncmdstat_get:calls=1\r\n")
			}
			return "+OK\r\n"
		}))
		got := probe(t, open(t, upstream.Options{URL: "redis://" + addr}))
		if got.Kind != upstream.KindValkey || got.Version != "8.1.0" || got.RedisVersion != "7.2.4" {
			t.Errorf("got %s %s (%s)", got.Kind, got.Version, got.RedisVersion)
		}
	})

	t.Run("a server that breaks off is an error", func(t *testing.T) {
		addr := listen(t, resp(func(args []string) string {
			switch strings.ToLower(args[0]) {
			case "hello":
				return "-ERR unknown command 'HELLO'\r\n"
			case "info":
				return ""
			}
			return "+OK\r\n"
		}))
		u := open(t, upstream.Options{URL: "redis://" + addr})
		if _, err := u.Probe(t.Context()); upstream.Classify(err) != upstream.Reset {
			t.Errorf("Probe: %v, want class %s", err, upstream.Reset)
		}
	})
}

func TestConnect(t *testing.T) {
	t.Run("over TLS with an authority and a server name of one's own, counts and tags included", func(t *testing.T) {
		cert, key := certificate(t)
		s := startTLS(t, cert, key)
		u := open(t, upstream.Options{URL: "rediss://" + s.Addr, TLS: upstream.TLS{CAFile: cert, ServerName: "redis.test"}})
		ctx := t.Context()
		for range 5 {
			if err := u.As(meter.Cache).Set(ctx, "k", strings.Repeat("x", 100_000), 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		info := u.Client().Info(ctx, "commandstats").Val()
		if !strings.Contains(info, "cmdstat_set:calls=5,") {
			t.Errorf("the server counts %s", info)
		}
		for _, r := range u.Meter().Snapshot().Only(meter.Cache).Rows {
			if r.Command != "set" || r.Sent != 5 || r.BytesOut < 500_000 {
				t.Errorf("got %+v", r)
			}
		}
	})

	t.Run("over TLS without verification when that is asked for", func(t *testing.T) {
		cert, key := certificate(t)
		s := startTLS(t, cert, key)
		open(t, upstream.Options{URL: "rediss://" + s.Addr, TLS: upstream.TLS{InsecureSkipVerify: true}})
	})

	t.Run("with a client certificate", func(t *testing.T) {
		cert, key := certificate(t)
		s := redistest.Start(t, "--port", "0", "--tls-port", "auto", "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert)
		open(t, upstream.Options{URL: "rediss://" + s.Addr, TLS: upstream.TLS{CAFile: cert, CertFile: cert, KeyFile: key}})
	})

	t.Run("as an ACL user, with a database number and a client name", func(t *testing.T) {
		s := redistest.Start(t)
		look := s.Client(t)
		if err := look.Do(t.Context(), "acl", "setuser", "app", "on", ">p@ss:/w", "~*", "+@all").Err(); err != nil {
			t.Fatal(err)
		}
		u := open(t, upstream.Options{URL: "redis://app:p%40ss%3A%2Fw@" + s.Addr + "/4", ClientName: "redisopt:audit"})
		list := look.ClientList(t.Context()).Val()
		if !strings.Contains(list, "name=redisopt:audit ") || !strings.Contains(list, "db=4 ") || !strings.Contains(list, "user=app ") {
			t.Errorf("CLIENT LIST shows %s", list)
		}
		if u.Addr() != s.Addr {
			t.Errorf("Addr() = %s, want %s", u.Addr(), s.Addr)
		}
	})

	t.Run("over a unix socket", func(t *testing.T) {
		s := redistest.Start(t, "--unixsocket", "redis.sock")
		u := open(t, upstream.Options{URL: "unix://" + s.Dir + "/redis.sock?db=2"})
		if err := u.Client().Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Error(err)
		}
	})

	t.Run("in RESP3", func(t *testing.T) {
		s := redistest.Start(t)
		u := open(t, upstream.Options{URL: s.URL(), Protocol: 3})
		if err := u.Client().HSet(t.Context(), "h", "a", 1).Err(); err != nil {
			t.Fatal(err)
		}
		if got := u.Client().HGetAll(t.Context(), "h").Val()["a"]; got != "1" {
			t.Errorf("HGETALL: a = %q", got)
		}
		if got := u.Meter().Snapshot().Totals(); got.Outcomes[meter.OK] != got.Sent {
			t.Errorf("%d sent, %v", got.Sent, got.Outcomes)
		}
		probe(t, u)
	})

	t.Run("through a Sentinel, whose own traffic is not counted", func(t *testing.T) {
		s := redistest.Start(t)
		sentinel := redistest.StartSentinel(t, s)
		u := open(t, upstream.Options{Sentinel: upstream.Sentinel{Addrs: []string{sentinel.Addr}, Master: "mymaster"}})
		for range 5 {
			if err := u.As(meter.Cache).Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		got := ourCounts(u.Meter())
		if diff := cmp.Diff(map[string]int64{"hello": 1, "ping": 1, "set": 5}, got); diff != "" {
			t.Errorf("counts (-want +got):\n%s", diff)
		}
		if n := len(u.Connections()); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})

	t.Run("through a Sentinel that does not know the master", func(t *testing.T) {
		sentinel := redistest.StartSentinel(t, redistest.Start(t))
		o := upstream.Options{Sentinel: upstream.Sentinel{Addrs: []string{sentinel.Addr}, Master: "other"}}
		wantText(t, failOpen(t, o, upstream.Unreachable), "all sentinels")
	})
}

func TestCluster(t *testing.T) {
	// two starts a cluster of two nodes with half of the slots each.
	two := func(t *testing.T) (a, b *redistest.Server) {
		a, b = redistest.Start(t, "--cluster-enabled", "yes"), redistest.Start(t, "--cluster-enabled", "yes")
		ctx := t.Context()
		ca, cb := a.Client(t), b.Client(t)
		for _, err := range []error{
			ca.Do(ctx, "cluster", "addslotsrange", 0, 8191).Err(),
			cb.Do(ctx, "cluster", "addslotsrange", 8192, 16383).Err(),
			ca.Do(ctx, "cluster", "meet", "127.0.0.1", strings.TrimPrefix(b.Addr, "127.0.0.1:")).Err(),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the cluster is complete", func() bool {
			return strings.Contains(ca.ClusterInfo(ctx).Val(), "cluster_state:ok") && strings.Contains(cb.ClusterInfo(ctx).Val(), "cluster_state:ok")
		})
		return a, b
	}

	t.Run("commands reach both nodes within the cap and are charged to their component", func(t *testing.T) {
		a, b := two(t)
		u := open(t, upstream.Options{Cluster: []string{a.Addr, b.Addr}, MaxConnections: 5})
		ctx, c := t.Context(), u.As(meter.Cache)
		for i := range 50 {
			if err := c.Set(ctx, fmt.Sprint("k", i), i, 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		pipe := u.As(meter.Queue).Pipeline()
		for i := range 50 {
			pipe.Get(ctx, fmt.Sprint("k", i))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := u.As(meter.SMS).TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "{n}1"); p.Incr(ctx, "{n}2"); return nil }); err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		for _, r := range u.Meter().Snapshot().Rows {
			got[string(r.Component)+" "+r.Command] = r.Sent
		}
		for k, want := range map[string]int64{"cache set": 50, "queue get": 50, "sms multi": 1, "sms incr": 2, "sms exec": 1} {
			if got[k] != want {
				t.Errorf("%s = %d, want %d, of %v", k, got[k], want, got)
			}
		}
		if n := len(u.Connections()); n > 5 {
			t.Errorf("%d connections, want at most 5", n)
		}
	})

	t.Run("a cap below the number of nodes is an error that says so", func(t *testing.T) {
		a, b := two(t)
		u, err := upstream.Open(t.Context(), upstream.Options{Cluster: []string{a.Addr}, MaxConnections: 1})
		for i := 0; err == nil && i < 50; i++ {
			err = u.Client().Set(t.Context(), fmt.Sprint("k", i), i, 0).Err()
		}
		if u != nil {
			defer func() { _ = u.Close() }()
		}
		_ = b
		if got := upstream.Classify(err); got != upstream.ConnectionLimit {
			t.Fatalf("%v: class %s, want %s", err, got, upstream.ConnectionLimit)
		}
		wantText(t, err, "a cluster needs one for each node")
	})

	t.Run("a write whose reply did not come is not sent again", func(t *testing.T) {
		s := redistest.Start(t, "--cluster-enabled", "yes")
		look := s.Client(t)
		if err := look.Do(t.Context(), "cluster", "addslotsrange", 0, 16383).Err(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the cluster is complete", func() bool { return strings.Contains(look.ClusterInfo(t.Context()).Val(), "cluster_state:ok") })
		u := open(t, upstream.Options{Cluster: []string{s.Addr}})
		done := make(chan error, 1)
		go func() { done <- u.Client().BLPop(t.Context(), 0, "nothing").Err() }()
		eventually(t, "the command blocks", func() bool { return strings.Contains(look.ClientList(t.Context()).Val(), "cmd=blpop") })
		kill(t, look, map[string]int64{})
		if err := <-done; upstream.Classify(err) != upstream.Reset {
			t.Errorf("BLPOP: %v, want a reset", err)
		}
		if n := ourCounts(u.Meter())["blpop"]; n != 1 {
			t.Errorf("sent %d times, want 1", n)
		}
	})
}
