package config

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEveryProblemOfServeCacheAndLimitsIsReported(t *testing.T) {
	for name, x := range map[string]struct {
		file string
		want []string // a part of each problem
	}{
		"addresses": {
			"serve: {listen: '127.0.0.1:8080', gateway_listen: '127.0.0.1:8080'}",
			[]string{"serve.gateway_listen: is the same as serve.listen"},
		},
		"half of a certificate": {
			"serve: {tls_key: k.pem}",
			[]string{"serve.tls_cert: tls_cert and tls_key belong together"},
		},
		"a replica that no key can hold": {
			"serve: {replica: 'a b'}",
			[]string{`serve.replica: got "a b"`},
		},
		"tokens": {
			`serve:
  token: same-same-same-same
  tokens:
    - {token: abcdefghijklmnopqrst, gateway: read}
    - {name: a, token: same-same-same-same, gateway: write}
    - {name: a, token: abcdefghijklmnopqrsu, gateway: write}
    - {name: default, token: abcdefghijklmnopqrsv, scopes: [admin]}
    - {name: b, token: abcdefghijklmnopqrsw, scopes: [everything]}
    - {name: c, token: "abcdefghijkl mnopqrsw", scopes: [limit], allow: ["FLUSH ALL"]}
`,
			[]string{
				"serve.tokens[0].name: missing",
				"serve.tokens[1].token: is the same as serve.token",
				`serve.tokens[2].name: "a" is also the name of serve.tokens[1]`,
				`serve.tokens[3].name: "default" is the name of serve.token`,
				`serve.tokens[4].scopes[0]: got "everything", want cache:read`,
				"serve.tokens[5].token: holds a space",
				`serve.tokens[5].allow[0]: got "FLUSH ALL"`,
			},
		},
		"the gateway's bounds": {
			"serve: {gateway: {max_body_bytes: 2048, max_request_bytes: 4096, timeout: 5s}}",
			[]string{"serve.gateway.timeout: got 5s, want at most 4.9s", "serve.gateway.max_body_bytes: 2048 is less than max_request_bytes (4096)"},
		},
		"namespaces": {
			`cache:
  namespaces:
    a: {class: USER_PROFIL}
    b: {class: RATE_LIMIT}
    c: {class: SESSION, codec: ioredis-json}
    d: {codec: ioredis-json, owner_parts: 1}
    e: {codec: xml}
`,
			[]string{
				`cache.namespaces.a.class: no class is named "USER_PROFIL"; did you mean USER_PROFILE?`,
				"cache.namespaces.b.class: class RATE_LIMIT is for rate limits only",
				"cache.namespaces.c.codec: ioredis-json cannot be encrypted",
				"cache.namespaces.d.owner_parts: needs tags",
				`cache.namespaces.e.codec: got "xml"`,
			},
		},
		"keys to encrypt by, of which nothing is shown": {
			"cache: {encryption_keys: 'one:c2hvcnQ=,two:!!,three', name_secret: short}",
			[]string{"cache.encryption_keys: key 1: is 5 bytes long, want 32", "cache.name_secret: is 5 bytes long, want at least 16"},
		},
		"rules": {
			`limits:
  hash_key: short
  trusted_proxies: [10.0.0.0/99]
  rules:
    a: {limit: 1, algorithm: calendar, period: 1m}
    b: {limit: 1, period: 1m, burst: 5, every: day, time_zone: Europe/Berlin}
    c: {limit: 1, algorithm: calendar, every: week, time_zone: Mars/North}
    d: {limit: 1, period: 1m, legacy: rate_limit}
    e: {limit: 1, period: 1m, legacy: 'rate_limit:{user}', legacy_share: true}
    f: {limit: 1, period: 1m, tiers: {pro: 0}}
    g: {limit: -1, period: 1m}
`,
			[]string{
				"limits.hash_key: is 5 bytes long",
				`limits.trusted_proxies[0]: got "10.0.0.0/99"`,
				"limits.rules.a.period: a calendar rule counts by day or month",
				"limits.rules.b.burst: only a token-bucket has one",
				"limits.rules.b.every: only a calendar rule has it",
				"limits.rules.b.time_zone: only a calendar rule has one",
				`limits.rules.c.every: got "week", want day or month`,
				`limits.rules.c.time_zone: got "Mars/North"`,
				"limits.rules.d.legacy: got \"rate_limit\", which has no {user}",
				"limits.rules.e.legacy_share: needs algorithm sliding-log",
				"limits.rules.f.tiers.pro: got 0, want at least 1",
				"limits.rules.g.limit: got -1, want at least 1",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(inFile(x.file))
			all := messages(err)
			if len(all) != len(x.want) {
				t.Errorf("%d problems, want %d:\n%s", len(all), len(x.want), strings.Join(all, "\n"))
			}
			for _, want := range x.want {
				if !strings.Contains(strings.Join(all, "\n"), want) {
					t.Errorf("no problem with %q in:\n%s", want, strings.Join(all, "\n"))
				}
			}
			for _, secret := range []string{"same-same", "abcdefgh", "c2hvcnQ"} {
				if strings.Contains(strings.Join(all, "\n"), secret) {
					t.Errorf("a secret is in: %s", strings.Join(all, "\n"))
				}
			}
		})
	}
}

func TestAnAddressForOthersNeedsATokenThatOpensIt(t *testing.T) {
	const exposed = "serve: {listen: '0.0.0.0:8080', gateway_listen: ':8079'"
	for name, x := range map[string]struct {
		file string
		env  map[string]string
		want int
	}{
		"nothing guards either":                    {file: exposed + "}", want: 2},
		"the token guards both":                    {file: exposed + "}", env: map[string]string{"REDISOPT_TOKEN": "t"}},
		"one for the gateway leaves the API open":  {file: exposed + ", tokens: [{name: a, token: abcdefghijklmnopqrst, gateway: read}]}", want: 1},
		"one for the API leaves the gateway open":  {file: exposed + ", tokens: [{name: a, token: abcdefghijklmnopqrst, scopes: [limit]}]}", want: 1},
		"loopback addresses need none":             {file: "serve: {listen: '[::1]:1', gateway_listen: 'localhost:2'}"},
		"a name is not known to be this machine's": {file: "serve: {listen: 'db.internal:1'}", want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := sources(x.env, map[string]string{DefaultFile: x.file})
			s.Need = Need{Serve: true}
			_, err := Load(s)
			if got := len(messages(err)); got != x.want {
				t.Errorf("%d problems, want %d: %v", got, x.want, err)
			}
		})
	}
}

func TestATokenIsReadFromItsFile(t *testing.T) {
	file := "serve: {tokens: [{name: a, token_file: /run/a, scopes: [limit]}, {name: b, token_file: /run/b, token: abcdefghijklmnopqrst, scopes: [limit]}, {name: c, token_file: /gone, scopes: [limit]}]}"
	c, err := Load(sources(nil, map[string]string{DefaultFile: file, "/run/a": "the-secret-of-application-a\n", "/run/b": "x"}))
	if got := c.Serve.Tokens[0].Token.Reveal(); got != "the-secret-of-application-a" {
		t.Errorf("token = %q", got)
	}
	all := messages(err)
	if len(all) != 2 || !strings.Contains(all[0], "serve.tokens[1].token_file: token is set too") || !strings.Contains(all[1], "serve.tokens[2].token_file: /gone cannot be read") {
		t.Errorf("problems = %q", all)
	}
	for _, v := range c.Values() {
		if strings.Contains(v.Value, "the-secret") {
			t.Errorf("%s shows its secret", v.Key)
		}
	}
}

func TestTheKeysOfTheCache(t *testing.T) {
	key := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	c, err := Load(sources(map[string]string{"REDISOPT_CACHE_KEYS": "new:" + key + ", old:" + key}, nil))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := c.Cache.Keys()
	if err != nil || len(keys) != 2 || keys[0].ID != "new" || keys[1].ID != "old" || len(keys[0].Secret) != 32 {
		t.Errorf("Keys = %v, %v", len(keys), err)
	}
}

func TestARuleThatHashesNeedsAKey(t *testing.T) {
	load := func(env map[string]string, file string) (*Config, error) {
		s := sources(env, map[string]string{DefaultFile: file})
		s.Need = Need{Limits: true}
		return Load(s)
	}
	c, err := load(nil, "")
	if _, has := c.UsableRules()["sms"]; err != nil || has {
		t.Errorf("without a key: %v, sms usable: %t", err, has)
	}
	c, err = load(map[string]string{"REDISOPT_LIMIT_HASH_KEY": strings.Repeat("h", 32)}, "")
	if r, has := c.UsableRules()["sms"]; err != nil || !has || r.By != ByPhone || r.OnError != Closed || r.Algorithm != SlidingLog {
		t.Errorf("with a key: %v, %+v", err, r)
	}
	_, err = load(nil, "limits: {rules: {sms: {limit: 30}, mail: {limit: 1, period: 1s, hash_subject: true}}}")
	if diff := cmp.Diff(2, len(messages(err))); diff != "" || !strings.Contains(err.Error(), "REDISOPT_LIMIT_HASH_KEY") {
		t.Errorf("rules that the file asks for: %v", err)
	}
}
