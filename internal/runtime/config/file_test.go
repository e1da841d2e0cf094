package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEveryProblemOfAFileIsReportedWithItsPlace(t *testing.T) {
	for name, x := range map[string]struct {
		file string
		want []string
	}{
		"many mistakes are one answer": {
			file: `version: 1
cache:
  default_tll: 1h
  max_ttl: 3600
  classes:
    USER_PROFILE: {ttl: 2 hours}
limits:
  rules:
    api: {limit: 0, on_error: maybe}
    extra: {limit: 5}
queues:
  list:
    - name: a
      migration_order: 1
    - name: b
      migration_order: 1
      depends_on: [c]
budgets:
  commands: {warn_at: 0.95}
`,
			want: []string{
				"redisopt.yaml:3:3: cache.default_tll: unknown key; did you mean default_ttl?",
				"redisopt.yaml:4:12: cache.max_ttl: got 3600 without a unit; write 3600s for seconds or 3600ms for milliseconds",
				`redisopt.yaml:6:25: cache.classes.USER_PROFILE.ttl: got "2 hours", want a duration such as 1h30m, 300s or 50ms`,
				"redisopt.yaml:9:18: limits.rules.api.limit: got 0, want at least 1",
				`redisopt.yaml:9:31: limits.rules.api.on_error: got "maybe", want local, open or closed`,
				"redisopt.yaml:10:12: limits.rules.extra.period: missing; write the length of the window, such as 1m",
				"redisopt.yaml:16:24: queues.list[1].migration_order: 1 is also the place of queue a",
				"redisopt.yaml:17:20: queues.list[1].depends_on[0]: no queue is named c; did you mean a?",
				"redisopt.yaml:19:23: budgets.commands.warn_at: 0.95 is above fail_at (0.9)",
			},
		},
		"camel case is understood as a typing error": {
			file: "cache:\n  defaultTTL: 1h\n",
			want: []string{"redisopt.yaml:2:3: cache.defaultTTL: unknown key; did you mean default_ttl?"},
		},
		"an unknown section has no suggestion when nothing is like it": {
			file: "kubernetes: 1\n",
			want: []string{"redisopt.yaml:1:1: kubernetes: unknown key"},
		},
		"a key that stands twice": {
			file: "cache:\n  max_ttl: 1h\n  max_ttl: 2h\n",
			want: []string{"redisopt.yaml:3:3: cache.max_ttl: is set twice, first in line 2"},
		},
		"a section without keys": {
			file: "cache:\n",
			want: []string{"redisopt.yaml:1:7: cache: has no value; remove it, or indent what belongs to it below it"},
		},
		"a list where keys are meant, and keys where a list is meant": {
			file: "cache: [1]\nqueues: {list: {a: 1}}\n",
			want: []string{
				"redisopt.yaml:1:8: cache: want keys with values, not a list",
				"redisopt.yaml:2:16: queues.list: want a list, not a mapping",
			},
		},
		"a mapping where one value is meant": {
			file: "upstream:\n  port: {a: 1}\n",
			want: []string{"redisopt.yaml:2:9: upstream.port: want one value, not a mapping"},
		},
		"anchors, aliases and merge keys": {
			file: "cache: &a\n  max_ttl: 48h\nserve: *a\nlimits:\n  <<: 1\n",
			want: []string{
				"redisopt.yaml:3:8: serve: anchors and aliases (*a) are not supported; write the value out",
				"redisopt.yaml:5:3: limits: merge keys (<<) are not supported; write the values out",
			},
		},
		"a list instead of a file": {
			file: "- a\n",
			want: []string{"redisopt.yaml:1:1: want keys with values, not a list"},
		},
		"no YAML at all": {
			file: "cache: [\n",
			want: []string{"redisopt.yaml:1:1: not valid YAML: did not find expected node content"},
		},
		"a tab": {
			file: "cache:\n\tmax_ttl: 1h\n",
			want: []string{"redisopt.yaml:2:1: not valid YAML: found character that cannot start any token"},
		},
		"two documents": {
			file: "version: 1\n---\nversion: 1\n",
			want: []string{"redisopt.yaml:2:1: a second document begins here; put everything into one"},
		},
		"a newer version": {
			file: "version: 2\n",
			want: []string{"redisopt.yaml:1:10: version: got 2, want at most 1"},
		},
		"a default TTL above the maximum is one problem, not one for each class": {
			file: "cache: {default_ttl: 2h, max_ttl: 1h, classes: {SESSION: {ttl: 1h}}}\n",
			want: []string{"redisopt.yaml:1:22: cache.default_ttl: 2h is longer than cache.max_ttl (1h)"},
		},
		"a default TTL that nobody set, and default classes, follow a lower maximum": {
			file: "cache: {max_ttl: 1m}\n",
		},
		"queues that depend on each other in a circle": {
			file: "queues:\n  list:\n    - {name: a, depends_on: [b]}\n    - {name: b, depends_on: [a]}\n",
			want: []string{"redisopt.yaml:3:29: queues.list[0].depends_on: goes round in a circle: a -> b -> a"},
		},
		"a queue without a name, and one twice": {
			file: "queues:\n  list:\n    - {note: x}\n    - {name: a}\n    - {name: a}\n",
			want: []string{
				"redisopt.yaml:3:7: queues.list[0].name: missing",
				`redisopt.yaml:5:14: queues.list[2].name: "a" is also the name of queues.list[1]`,
			},
		},
		"queues whose jobs nobody could run": {
			file: `queues:
  push: {secret: short}
  list:
    - {name: a, mode: push}
    - {name: b, mode: exec, endpoint: "http://h/"}
    - {name: c, mode: lease, command: [run], backoff: {delay: 2h, max: 1h}}
    - {name: d:high, mode: lease}
    - {name: e, mode: push, endpoint: "ftp://h/"}
    - {name: f, mode: later}
    - {name: g}
`,
			want: []string{
				"redisopt.yaml:2:18: queues.push.secret: is shorter than 16 bytes, which can be guessed; make one with: openssl rand -hex 32",
				"redisopt.yaml:4:7: queues.list[0].endpoint: missing; mode push sends jobs there",
				"redisopt.yaml:5:7: queues.list[1].command: missing; mode exec runs it for each job",
				"redisopt.yaml:5:39: queues.list[1].endpoint: only mode push sends jobs; this queue has mode exec",
				"redisopt.yaml:6:39: queues.list[2].command: only mode exec runs one; this queue has mode lease",
				"redisopt.yaml:6:72: queues.list[2].backoff.max: 1h is less than delay (2h)",
				`redisopt.yaml:7:14: queues.list[3].name: got "d:high", want at most 200 bytes without braces that do not end in :high or :low, which are the bands of another queue`,
				"redisopt.yaml:8:39: queues.list[4].endpoint: want http:// or https:// with a host, without user and fragment",
				`redisopt.yaml:9:23: queues.list[5].mode: got "later", want push, lease, exec or add`,
			},
		},
		"schedules that could not add a job": {
			file: `queues:
  list: [{name: a, mode: lease}, {name: b}]
  schedules:
    - {name: x, queue: a}
    - {name: x, queue: b, cron: "* * * * *", every: 1m}
    - {name: y, queue: c, every: 1m, time_zone: Mars, payload: "{"}
`,
			want: []string{
				"redisopt.yaml:4:7: queues.schedules[0].cron: want cron or every, one of them",
				`redisopt.yaml:5:14: queues.schedules[1].name: "x" is also the name of queues.schedules[0]`,
				"redisopt.yaml:5:24: queues.schedules[1].queue: queues.list[1] has no mode, so no jobs can be added to it",
				"redisopt.yaml:5:33: queues.schedules[1].cron: want cron or every, one of them",
				"redisopt.yaml:6:24: queues.schedules[2].queue: no queue is named c",
				`redisopt.yaml:6:49: queues.schedules[2].time_zone: got "Mars", want a name such as Europe/Berlin`,
				"redisopt.yaml:6:64: queues.schedules[2].payload: is no JSON",
			},
		},
		"a queue that sends jobs without a secret": {
			file: "queues:\n  list: [{name: a, mode: push, endpoint: \"http://h/\"}]\n",
			want: []string{
				"redisopt.yaml:2:3: queues.push.secret: missing; queues.list[0] sends jobs, and the application must know that they are ours: set REDISOPT_PUSH_SECRET or REDISOPT_PUSH_SECRET_FILE",
			},
		},
		"half a client certificate, a master without Sentinels, a bad address": {
			file: "upstream:\n  tls_files: {cert: a.pem}\n  sentinel: {master: m}\n  cluster: [h:1, h]\n",
			want: []string{
				"redisopt.yaml:2:14: upstream.tls_files: cert and key belong together; set both or neither",
				"redisopt.yaml:3:13: upstream.sentinel.addresses: missing, but upstream.sentinel.master is set",
				"redisopt.yaml:4:18: upstream.cluster[1]: is not an address of the form host:port",
			},
		},
		"a retry that begins above its cap": {
			file: "upstream:\n  retry: {base: 1m}\n",
			want: []string{"redisopt.yaml:2:17: upstream.retry.base: 1m is longer than upstream.retry.cap (10s)"},
		},
		"a name with a line break in it does not break the message": {
			file: "limits:\n  rules:\n    \"a\\nb\": {limit: 1, period: 1s}\n",
			want: []string{`redisopt.yaml:3:5: limits.rules: name "a\nb": want 1 to 64 letters, digits, dots, hyphens and underscores`},
		},
		"a budget with a process above its fleet, percentiles crossed, a day that is none": {
			file: "budgets:\n  connections: {per_process: 5, fleet: 3}\n  latency: {cache: {p95: 2s, p99: 1s}}\n  commands: {start: \"2026-02-30\"}\n  require: [static, alive]\n",
			want: []string{
				"redisopt.yaml:2:30: budgets.connections.per_process: 5 is more than the whole fleet may hold (fleet: 3)",
				"redisopt.yaml:3:26: budgets.latency.cache.p95: 2s is above p99 (1s)",
				`redisopt.yaml:4:21: budgets.commands.start: got "2026-02-30", want a day such as 2026-11-05`,
				`redisopt.yaml:5:21: budgets.require[1]: got "alive", want static, recorded, live or bench`,
			},
		},
		"numbers that are none": {
			file: "budgets: {money: {usd_per_month: .nan}, connections: {fleet: 1.5, deploy_factor: 0.5}}\n",
			want: []string{
				`redisopt.yaml:1:34: budgets.money.usd_per_month: got ".nan", want a number`,
				`redisopt.yaml:1:62: budgets.connections.fleet: got "1.5", want a whole number`,
				"redisopt.yaml:1:82: budgets.connections.deploy_factor: got 0.5, want at least 1",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Load(inFile(x.file))
			if diff := cmp.Diff(x.want, messages(err)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if c == nil {
				t.Error("no configuration to show beside the problems")
			}
		})
	}
	if _, err := Load(inFile("#" + strings.Repeat("x", maxFileBytes))); err == nil || !strings.Contains(err.Error(), "want at most 1048576") {
		t.Errorf("a huge file: %v", err)
	}
}

func TestMapsAreMergedAndListsReplaced(t *testing.T) {
	c, err := Load(inFile(`
cache: {default_ttl: 2h, classes: {MINE: {sensitive: true}, SESSION: {ttl: 1h}}}
limits: {rules: {api: {limit: 600}, login: {limit: 5, period: 15m, on_error: closed}, other: {limit: 1, period: 1s}}}
queues: {list: [{name: b, migration_order: 2}, {name: c}, {name: a, migration_order: 1, criticality: critical}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]Rule{
		"api":   Rule{Limit: 600, Period: time.Minute}.filled(),
		"sms":   Default().Limits.Rules["sms"],
		"login": Rule{Limit: 5, Period: 15 * time.Minute, OnError: Closed}.filled(),
		"other": Rule{Limit: 1, Period: time.Second}.filled(),
	}, c.Limits.Rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if got, want := c.Cache.Classes["MINE"], (Class{TTL: 2 * time.Hour, Sensitive: true}); got != want {
		t.Errorf("a class without a TTL = %v, want %v", got, want)
	}
	if got, want := c.Cache.Classes["SESSION"], (Class{TTL: time.Hour, Sensitive: true}); got != want {
		t.Errorf("a changed class = %v, want %v", got, want)
	}
	var order []string
	for _, q := range c.Queues.ByMigrationOrder() {
		order = append(order, q.Name+" "+string(q.Criticality))
	}
	if diff := cmp.Diff([]string{"a critical", "b normal", "c normal"}, order); diff != "" {
		t.Errorf("queues (-want +got):\n%s", diff)
	}
}

func FuzzFile(f *testing.F) {
	// Short seeds: the fuzzer tries to shorten whatever it finds, byte by byte.
	f.Add("version: 1\nupstream: {url: 'redis://u:p@h', port: 1, tls: on}")
	f.Add("limits:\n  rules:\n    api: {limit: 1, period: 1m}\n")
	f.Add("budgets: {require: [live], latency: {x: {p95: 1ms}}}")
	f.Add("cache: &a {max_ttl: 1h}\nlimits: *a\n---\n- x")
	f.Add("queues: {list: [{name: a, depends_on: [a]}]}")
	f.Add("? {a: b}\n: c\n<<: [1]\nversion: !!binary aGk=\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Load(inFile(text))
		if c == nil {
			t.Fatal("no configuration")
		}
		for _, v := range c.Values() {
			if strings.HasPrefix(v.Key, ".") || v.Key == "" {
				t.Errorf("bad key %q", v.Key)
			}
		}
		for _, p := range Problems(err) {
			if strings.ContainsAny(p.Error(), "\n\x00") && !strings.Contains(p.Message, "not valid YAML") {
				t.Errorf("a problem of more than one line: %q", p.Error())
			}
		}
		if err == nil {
			for _, q := range c.Queues.List {
				c.Queues.PauseOf(q.Name)
			}
		}
		_, _ = c.TCP()
		_, _ = c.REST()
	})
}
