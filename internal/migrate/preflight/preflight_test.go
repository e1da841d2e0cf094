package preflight

import (
	"slices"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// rules are the rules of problems, the blocking ones with an exclamation mark.
func rules(problems []migrate.Problem) []string {
	out := []string{}
	for _, p := range problems {
		rule := p.Rule
		if p.Blocking {
			rule += "!"
		}
		out = append(out, rule)
	}
	return out
}

func TestWhatIsNotFitIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		info   string
		queues bool
		want   []string
	}{
		"all well":                      {"redis_version:7.2.4\r\nrole:master\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n", true, nil},
		"nothing is told":               {"", true, nil},
		"6.0":                           {"redis_version:6.0.16\r\n", true, []string{"old-server!"}},
		"no version at all":             {"redis_version:latest\r\n", true, nil},
		"a replica":                     {"role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\n", true, []string{"replica!"}},
		"loading":                       {"loading:1\r\n", true, []string{"loading!"}},
		"full":                          {"maxmemory:1000\r\nused_memory:901\r\n", true, []string{"memory!"}},
		"close to full":                 {"maxmemory:1000\r\nused_memory:801\r\n", true, []string{"memory"}},
		"jobs may be evicted":           {"maxmemory:1000\r\nused_memory:1\r\nmaxmemory_policy:allkeys-lru\r\n", true, []string{"eviction!"}},
		"a cache may be evicted":        {"maxmemory:1000\r\nused_memory:1\r\nmaxmemory_policy:allkeys-lru\r\n", false, []string{"eviction"}},
		"what expires may be evicted":   {"maxmemory:1000\r\nused_memory:1\r\nmaxmemory_policy:volatile-ttl\r\n", true, []string{"eviction"}},
		"evicting, but without a limit": {"maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n", true, []string{"eviction"}},
	} {
		t.Run(name, func(t *testing.T) {
			info := parse(c.info)
			got := append(server(info), memory(info, c.queues)...)
			if !slices.Equal(rules(got), c.want) {
				t.Errorf("got %q, want %q", rules(got), c.want)
			}
			for _, p := range got {
				if p.Fix == "" {
					t.Errorf("%s does not say what to do", p.Rule)
				}
			}
		})
	}
}

func TestWhatIsAskedForIsJudgedWithoutTheServer(t *testing.T) {
	held := migrate.Standing{Holder: &migrate.Holder{Owner: "ann@alpha 1"}}
	for name, c := range map[string]struct {
		o    Options
		want []string
	}{
		"encrypted":              {Options{TLS: true}, nil},
		"plain on this host":     {Options{Local: true}, nil},
		"plain over the network": {Options{}, []string{"no-tls"}},
		"somebody works on it":   {Options{TLS: true, Standing: held}, []string{"lease-held!"}},
		"enough is left":         {Options{TLS: true, Commands: 400, Quota: &Quota{Left: 1000}}, nil},
		"most of what is left":   {Options{TLS: true, Commands: 600, Quota: &Quota{Left: 1000}}, []string{"quota"}},
		"more than is left":      {Options{TLS: true, Commands: 1001, Quota: &Quota{Left: 1000}}, []string{"quota!"}},
		"nearly spent":           {Options{TLS: true, Commands: 10, Quota: &Quota{Left: 49_000, Plan: 500_000}}, []string{"quota"}},
		"a tenth is left":        {Options{TLS: true, Commands: 10, Quota: &Quota{Left: 50_000, Plan: 500_000}}, nil},
		"spent, and more":        {Options{TLS: true, Commands: 1, Quota: &Quota{Left: -5, Plan: 500_000}}, []string{"quota!"}},
	} {
		if got := rules(asked(c.o)); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestASlowAnswerIsNoSkewedClock(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		then, took time.Duration
		want       []string
	}{
		{0, time.Millisecond, nil},
		{time.Second, 0, nil},
		{4 * time.Second, 5 * time.Second, nil},
		{-3 * time.Second, 0, []string{"clock"}},
		{time.Minute, time.Second, []string{"clock!"}},
	} {
		if got := rules(clock(now.Add(c.then), now, now.Add(c.took))); !slices.Equal(got, c.want) {
			t.Errorf("a clock at %s, asked for %s: got %q, want %q", c.then, c.took, got, c.want)
		}
	}
}

func TestOtherWritersAreCounted(t *testing.T) {
	list := "id=1 name=redisopt-migrate cmd=evalsha\nid=2 name= cmd=hset\nid=3 name=app cmd=get\nid=4 name= cmd=brpoplpush\n"
	got := writers(list)
	if !slices.Equal(rules(got), []string{"other-writers"}) || got[0].Message[:1] != "2" {
		t.Errorf("got %+v, want two writers", got)
	}
	if got := writers("id=3 name=app cmd=get\n"); got != nil {
		t.Errorf("a reader counts: %+v", got)
	}
}

func TestAFreshServerIsFit(t *testing.T) {
	client := redistest.Start(t).Client(t)
	got, err := Check(t.Context(), client, Options{Queues: true, Local: true})
	if err != nil || len(got) != 0 {
		t.Errorf("Check = %q, %v, want nothing", rules(got), err)
	}
	if err := client.ConfigSet(t.Context(), "maxmemory", "1gb").Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lfu").Err(); err != nil {
		t.Fatal(err)
	}
	if got, err = Check(t.Context(), client, Options{Queues: true, Local: true}); err != nil || !slices.Equal(rules(got), []string{"eviction!"}) {
		t.Errorf("Check = %q, %v, want the eviction", rules(got), err)
	}
}
