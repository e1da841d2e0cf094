package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const planted = "pl4nted-s3cret"

func TestNothingPrintsASecret(t *testing.T) {
	for name, s := range map[string]Sources{
		"from the environment": sources(map[string]string{
			"UPSTASH_REDIS_REST_URL": "https://x.upstash.io?k=" + planted, "UPSTASH_REDIS_REST_TOKEN": planted,
			"REDIS_URL": "redis://u:" + planted + "@h:6379?password=" + planted, "REDIS_PASSWORD": planted, "REDISOPT_TOKEN": planted,
		}, nil),
		"from the file": inFile("upstream:\n  rest_token: " + planted + "\n  url: redis://u:" + planted + "@h\n  password: " + planted +
			"\n  sentinel: {password: " + planted + "}\nserve: {token: " + planted + "}\n"),
		"in URLs that are wrong": sources(map[string]string{
			"REDIS_URL": "redis://u:" + planted + "%zz@h", "UPSTASH_REDIS_REST_URL": "redis://:" + planted + "@h:x",
		}, nil),
		"where no secret is meant": sources(map[string]string{"REDIS_HOST": "u:" + planted + "@h", "REDIS_URL": "u:" + planted + "@h:6379"}, nil),
		"in quotation marks":       sources(map[string]string{"REDIS_PASSWORD": `"` + planted + `"`, "REDIS_URL": `"redis://:` + planted + `@h"`}, nil),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Load(s)
			var out bytes.Buffer
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				fmt.Fprintf(&out, verb+"\n", c.Upstream.Password, c.Upstream.URL)
				fmt.Fprintf(&out, verb+"\n", c.Upstream.Sentinel, c.Serve)
			}
			fmt.Fprintf(&out, "%v %v\n", err, c.Warnings())
			for _, v := range c.Values() {
				fmt.Fprintf(&out, "%s %s %s\n", v.Key, v.Value, v.Origin)
			}
			for _, w := range c.Warnings() {
				fmt.Fprintln(&out, w)
			}
			fmt.Fprintln(&out, c.Require(Need{Queues: true, REST: true, Token: true}))
			target, _ := c.TCP()
			fmt.Fprintf(&out, "%+v\n", target.URL)
			rest, _ := c.REST()
			fmt.Fprintf(&out, "%+v\n", rest)
			for _, x := range []any{c.Upstream.Password, c.Upstream.RESTToken, c.Upstream.URL, rest} {
				if err := json.NewEncoder(&out).Encode(x); err != nil {
					t.Fatal(err)
				}
			}
			slog.New(slog.NewTextHandler(&out, nil)).Info("x", "password", c.Upstream.Password, "url", c.Upstream.URL)
			if i := strings.Index(strings.ToLower(out.String()), planted); i >= 0 {
				t.Errorf("a secret is printed: …%s", out.String()[max(0, i-60):i+20])
			}
			if hex := fmt.Sprintf("%x", planted); strings.Contains(out.String(), hex) {
				t.Error("a secret is printed in hexadecimal")
			}
		})
	}
}

func TestURLsArePrintedWithoutWhatIsSecret(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "",
		"redis://h:6379/2":              "redis://h:6379/2",
		"rediss://u:p@h:6379":           "rediss://u:********@h:6379",
		"rediss://:p@h":                 "rediss://:********@h",
		"redis://u@h":                   "redis://u@h",
		"unix:///run/redis.sock?db=1":   "unix:///run/redis.sock?********",
		"redis://u:p%zz@h":              "********",
		"u:p@h:6379":                    "********",
		"p@h":                           "********",
		"https://x.upstash.io/?token=p": "https://x.upstash.io/?********",
	} {
		if got := URL(in).String(); got != want {
			t.Errorf("URL(%q) prints %q, want %q", in, got, want)
		}
	}
}
