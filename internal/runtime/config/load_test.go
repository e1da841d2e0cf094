package config

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sources makes Sources of an environment and of files, redisopt.yaml among them.
func sources(env map[string]string, files map[string]string) Sources {
	return Sources{
		Env: func(name string) (string, bool) {
			value, ok := env[name]
			return value, ok
		},
		ReadFile: func(name string) ([]byte, error) {
			text, ok := files[name]
			if !ok {
				return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
			}
			if text == "unreadable" {
				return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
			}
			return []byte(text), nil
		},
	}
}

func inFile(text string) Sources { return sources(nil, map[string]string{DefaultFile: text}) }

func messages(err error) []string {
	var all []string
	for _, p := range Problems(err) {
		all = append(all, p.Error())
	}
	return all
}

func TestNothingConfiguredIsTheDefaults(t *testing.T) {
	for name, s := range map[string]Sources{
		"there is no file":            sources(nil, nil),
		"the file is empty":           inFile(""),
		"the file is comments only":   inFile("# nothing\n\n# here\n"),
		"the file is an empty object": inFile("{}"),
		"the file is null":            inFile("~"),
		"variables are set to nothing": sources(map[string]string{
			"REDIS_URL": "", "REDIS_PORT": "", "REDIS_URL_FILE": "",
		}, nil),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Load(s)
			if err != nil {
				t.Fatalf("Load() = %v", err)
			}
			if diff := cmp.Diff(Default(), c, cmp.AllowUnexported(Config{})); diff != "" {
				t.Errorf("not the defaults (-want +got):\n%s", diff)
			}
			for _, v := range c.Values() {
				if v.Origin.String() != "default" {
					t.Errorf("origin of %s = %s, want default", v.Key, v.Origin)
				}
			}
		})
	}
}

func TestDefaultsOfTheDesignDocument(t *testing.T) {
	c := Default()
	classes := map[string]time.Duration{}
	for name, class := range c.Cache.Classes {
		classes[name] = class.TTL
	}
	if diff := cmp.Diff(map[string]time.Duration{
		"USER_PROFILE": 3600 * time.Second, "CONTACTS_LIST": 1800 * time.Second, "SUGGESTIONS": 300 * time.Second,
		"RATE_LIMIT": 60 * time.Second, "SESSION": 86400 * time.Second,
	}, classes); diff != "" {
		t.Errorf("TTL classes (-want +got):\n%s", diff)
	}
	for _, x := range []struct {
		name      string
		got, want any
	}{
		{"default TTL", c.Cache.DefaultTTL, 3600 * time.Second},
		{"maximum TTL", c.Cache.MaxTTL, 86400 * time.Second},
		{"requests a minute", c.Limits.Rules["api"].Limit, 60},
		{"counted in any minute", c.Limits.Rules["api"].Period, time.Minute},
		{"SMS an hour", c.Limits.Rules["sms"].Limit, 20},
		{"counted in any hour", c.Limits.Rules["sms"].Period, time.Hour},
		{"SMS fail closed", c.Limits.Rules["sms"].OnError, Closed},
		{"connections", c.Upstream.MaxConnections, 3},
		{"port", c.Upstream.Port, 6379},
		{"retries", c.Upstream.Retry, Retry{3, time.Second, 10 * time.Second, 0.1}},
		{"warning at 80%", c.Budgets.Commands.WarnAt, 0.8},
		{"failure at 90%", c.Budgets.Commands.FailAt, 0.9},
		{"connect timeout", c.Upstream.DialTimeout, 10 * time.Second},
		{"keep-alive", c.Upstream.KeepAlive, 30 * time.Second},
	} {
		if x.got != x.want {
			t.Errorf("%s = %v, want %v", x.name, x.got, x.want)
		}
	}
}

func TestPrecedenceAndOrigin(t *testing.T) {
	file := "version: 1\nupstream:\n  url: redis://file:1\n  timeout: 7s\n  port: 7000\n"
	env := map[string]string{"REDIS_URL": "redis://env:2", "REDIS_PORT_FILE": "/run/port"}
	s := sources(env, map[string]string{DefaultFile: file, "/run/port": "7001\n"})
	s.Flags = map[string]string{"redis-url": "redis://flag:3"}
	c, err := Load(s)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][2]string{}
	for _, v := range c.Values() {
		got[v.Key] = [2]string{v.Value, v.Origin.String()}
	}
	for key, want := range map[string][2]string{
		"upstream.url":             {"redis://flag:3", "flag --redis-url"},
		"upstream.port":            {"7001", "env REDIS_PORT_FILE (/run/port)"},
		"upstream.timeout":         {"7s", "redisopt.yaml:4"},
		"upstream.max_connections": {"3", "default"},
		"version":                  {"1", "redisopt.yaml:1"},
		"cache.default_ttl":        {"1h", "default"},
	} {
		if got[key] != want {
			t.Errorf("%s = %q, want %q", key, got[key], want)
		}
	}

	s.Flags = nil
	if c, err = Load(s); err != nil {
		t.Fatal(err)
	}
	if got, want := c.Upstream.URL.Reveal(), "redis://env:2"; got != want {
		t.Errorf("without the flag, url = %s, want %s", got, want)
	}
	if got, want := c.Origin("upstream.url").String(), "env REDIS_URL"; got != want {
		t.Errorf("without the flag, origin = %s, want %s", got, want)
	}
}

func TestEveryVariableIsReadAlsoFromAFile(t *testing.T) {
	values := map[string]string{
		"UPSTASH_REDIS_REST_URL": "https://a.upstash.io", "UPSTASH_REDIS_REST_TOKEN": "t0ken",
		"REDIS_URL": "rediss://u:p@h:1", "REDIS_HOST": "h", "REDIS_PORT": "1234", "REDIS_USERNAME": "u",
		"REDIS_PASSWORD": "p w", "REDIS_TLS": "true", "REDISOPT_TOKEN": "a", "REDISOPT_READONLY_TOKEN": "b",
	}
	env, files := map[string]string{}, map[string]string{}
	for name, value := range values {
		env[name+"_FILE"] = "/run/secrets/" + name
		files["/run/secrets/"+name] = value + "\r\n"
	}
	direct, err := Load(sources(values, nil))
	if err != nil {
		t.Fatal(err)
	}
	fromFiles, err := Load(sources(env, files))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(direct, fromFiles, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".origins" || p.Last().String() == ".warnings" }, cmp.Ignore()), cmp.AllowUnexported(Config{})); diff != "" {
		t.Errorf("from variables and from files differ:\n%s", diff)
	}
	if got := direct.Upstream; got.Port != 1234 || !got.TLS || got.Password.Reveal() != "p w" || got.Username != "u" || got.Host != "h" ||
		got.URL.Reveal() != "rediss://u:p@h:1" || got.RESTURL.Reveal() != "https://a.upstash.io" || got.RESTToken.Reveal() != "t0ken" {
		t.Errorf("upstream = %+v", got)
	}
	if direct.Serve.Token.Reveal() != "a" || direct.Serve.ReadonlyToken.Reveal() != "b" {
		t.Error("the tokens of our own doors were not read")
	}
}

func TestTheFallbackPairCountsOnlyTogether(t *testing.T) {
	kv := map[string]string{"KV_REST_API_URL": "https://kv.upstash.io", "KV_REST_API_TOKEN": "kv"}
	c, err := Load(sources(kv, nil))
	if err != nil {
		t.Fatal(err)
	}
	if rest, ok := c.REST(); !ok || rest.Token.Reveal() != "kv" || rest.Origin.Name != "KV_REST_API_URL" {
		t.Errorf("REST() = %s %s, %t, want the KV pair", rest.URL, rest.Origin, ok)
	}

	kv["UPSTASH_REDIS_REST_URL"] = "https://up.upstash.io"
	_, err = Load(sources(kv, nil))
	want := []string{"upstream.rest_token: missing, but upstream.rest_url is set (env UPSTASH_REDIS_REST_URL); set UPSTASH_REDIS_REST_TOKEN"}
	if diff := cmp.Diff(want, messages(err)); diff != "" {
		t.Errorf("one database's token for another's address (-want +got):\n%s", diff)
	}

	_, err = Load(sources(map[string]string{"KV_REST_API_URL": "https://kv.upstash.io"}, nil))
	if got := messages(err); len(got) != 1 || !strings.Contains(got[0], "set KV_REST_API_TOKEN") {
		t.Errorf("half the fallback pair: %q", got)
	}
}

func TestBadEnvironment(t *testing.T) {
	for name, x := range map[string]struct {
		env   map[string]string
		files map[string]string
		want  []string
	}{
		"a REST URL where TCP is meant": {
			env: map[string]string{"REDIS_URL": "https://eu1-x.upstash.io"},
			want: []string{
				"REDIS_URL: upstream.url: https:// is the REST address, but this is for TCP; set UPSTASH_REDIS_REST_URL to it, and REDIS_URL to rediss://default:PASSWORD@eu1-x.upstash.io:6379",
			},
		},
		"a TCP URL where REST is meant": {
			env: map[string]string{"UPSTASH_REDIS_REST_URL": "rediss://default:s3cret@eu1-x.upstash.io:6379", "UPSTASH_REDIS_REST_TOKEN": "t"},
			want: []string{
				"UPSTASH_REDIS_REST_URL: upstream.rest_url: rediss:// is an address for TCP, but this is for REST; set REDIS_URL to it, and UPSTASH_REDIS_REST_URL to https://eu1-x.upstash.io",
			},
		},
		"a name where a URL is meant": {
			env:  map[string]string{"REDIS_URL": "localhost:6379"},
			want: []string{"REDIS_URL: upstream.url: does not begin with redis:// or rediss:// (TLS); want rediss://USER:PASSWORD@HOST:6379"},
		},
		"an unescaped password": {
			env:  map[string]string{"REDIS_URL": "redis://:s3%cret@h:6379"},
			want: []string{"REDIS_URL: upstream.url: is not a URL; escape @ : / # ? and % in the password as %40 %3A %2F %23 %3F %25"},
		},
		"a port in the host": {
			env:  map[string]string{"REDIS_HOST": "db.local:6380"},
			want: []string{"REDIS_HOST: upstream.host: has a port in it; set REDIS_HOST=db.local and REDIS_PORT=6380"},
		},
		"a URL in the host": {
			env:  map[string]string{"REDIS_HOST": "redis://:s3cret@db.local"},
			want: []string{"REDIS_HOST: upstream.host: is a URL, but only the server's name belongs here; set REDIS_URL to the whole URL instead"},
		},
		"a port that is no number, and one out of range": {
			env:  map[string]string{"REDIS_PORT": "http", "REDIS_TLS": "maybe"},
			want: []string{`REDIS_PORT: upstream.port: got "http", want a whole number`, `REDIS_TLS: upstream.tls: got "maybe", want true or false`},
		},
		"a port out of range": {
			env:  map[string]string{"REDIS_PORT": "65536"},
			want: []string{`REDIS_PORT: upstream.port: got 65536, want at most 65535`},
		},
		"quotation marks around a value": {
			env:  map[string]string{"REDIS_HOST": "h", "REDIS_PASSWORD": `"s3cret"`},
			want: []string{`REDIS_PASSWORD: upstream.password: the value has quotation marks (") around it, which are taken literally here; remove them`},
		},
		"a variable and its file": {
			env:   map[string]string{"REDIS_URL": "redis://h", "REDIS_URL_FILE": "/f"},
			files: map[string]string{"/f": "redis://h"},
			want:  []string{"REDIS_URL_FILE: upstream.url: REDIS_URL is set too; unset one of the two"},
		},
		"a secret file that is missing, one that is unreadable, one that is empty": {
			env:   map[string]string{"REDIS_URL_FILE": "/gone", "REDIS_PASSWORD_FILE": "/locked", "REDISOPT_TOKEN_FILE": "/empty"},
			files: map[string]string{"/locked": "unreadable", "/empty": "\n"},
			want: []string{
				"REDIS_URL_FILE: upstream.url: /gone cannot be read: file does not exist",
				"REDIS_PASSWORD_FILE: upstream.password: /locked cannot be read: permission denied",
				"REDISOPT_TOKEN_FILE: serve.token: /empty is empty",
			},
		},
		"a token without its address": {
			env:  map[string]string{"UPSTASH_REDIS_REST_TOKEN": "s3cret"},
			want: []string{"upstream.rest_url: missing, but upstream.rest_token is set (env UPSTASH_REDIS_REST_TOKEN); set UPSTASH_REDIS_REST_URL"},
		},
		"credentials in the REST address": {
			env:  map[string]string{"UPSTASH_REDIS_REST_URL": "https://default:s3cret@x.upstash.io", "UPSTASH_REDIS_REST_TOKEN": "t"},
			want: []string{"UPSTASH_REDIS_REST_URL: upstream.rest_url: has credentials in it; put the token into UPSTASH_REDIS_REST_TOKEN"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(sources(x.env, x.files))
			if diff := cmp.Diff(x.want, messages(err)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if err != nil && strings.Contains(err.Error(), "s3") {
				t.Errorf("a secret is in the error: %v", err)
			}
		})
	}
}

func TestFlags(t *testing.T) {
	for name, x := range map[string]struct {
		flags map[string]string
		want  string
	}{
		"a password on the command line is refused with the reason": {
			map[string]string{"redis-url": "redis://u:s3cret@h"}, "process list",
		},
		"also in a URL that cannot be parsed": {
			map[string]string{"redis-url": "redis://u:s3%cret@h"}, "process list",
		},
		"also as a parameter": {
			map[string]string{"redis-url": "redis://h?password=s3cret"}, "process list",
		},
		"a flag that sets nothing": {
			map[string]string{"redis-uri": "x"}, "did you mean redis-url?",
		},
		"a timeout without a unit": {
			map[string]string{"timeout": "5"}, "write 5s for seconds",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := sources(nil, nil)
			s.Flags = x.flags
			_, err := Load(s)
			if err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("Load() = %v, want an error with %q and without the password", err, x.want)
			}
		})
	}
	if err := CheckURLFlag("rediss://user@h:6379/0"); err != nil {
		t.Errorf("a user without a password is refused: %v", err)
	}
}

func TestAFileThatIsNamedMustExist(t *testing.T) {
	s := sources(nil, map[string]string{"locked.yaml": "unreadable"})
	s.File = "gone.yaml"
	_, err := Load(s)
	var p *Problem
	if !errors.As(err, &p) || p.Error() != "gone.yaml: no such file; write one with: redisopt config init" {
		t.Errorf("Load() = %v", err)
	}
	s.File = "locked.yaml"
	if _, err := Load(s); err == nil || err.Error() != "locked.yaml: cannot be read: permission denied" {
		t.Errorf("Load() = %v", err)
	}
}
