package config

import (
	"strings"
	"testing"
)

func TestASecondUpstreamIsCheckedAgainstTheFirst(t *testing.T) {
	t.Parallel()
	const tcp = "upstream:\n  url: redis://old:6379\n"
	for name, c := range map[string]struct{ file, want string }{
		"over TCP it takes one of three connections":      {tcp + "ramp:\n  url: redis://new:6379\n", ""},
		"over REST it takes none of two":                  {"upstream:\n  url: redis://old:6379\n  max_connections: 2\nramp:\n  rest_url: https://new.upstash.io\n  rest_token: t\n", ""},
		"over TCP two connections are not enough":         {"upstream:\n  url: redis://old:6379\n  max_connections: 2\nramp:\n  url: redis://new:6379\n", "upstream.max_connections: 2 leaves none for ramp.url (redisopt.yaml:5): the old side needs 2, for commands and for the bell, and the new side 1; set 3, or reach the new side by ramp.rest_url, which holds none"},
		"one way or the other":                            {tcp + "ramp:\n  url: redis://new:6379\n  rest_url: https://new.upstash.io\n  rest_token: t\n", "ramp.url: ramp.rest_url is set too"},
		"a token without its address":                     {tcp + "ramp:\n  rest_token: t\n", "ramp.rest_url: missing"},
		"an address without its token":                    {tcp + "ramp:\n  rest_url: https://new.upstash.io\n", "ramp.rest_token: missing"},
		"the same server twice is a mistake":              {tcp + "ramp:\n  url: redis://old:6379\n", "ramp.url: is the address of the old side too"},
		"the same server twice by intent":                 {tcp + "ramp:\n  url: redis://old:6379\n  same_database: true\n", ""},
		"another database of the same server":             {tcp + "ramp:\n  url: redis://old:6379/1\n", ""},
		"from a cluster keys are not taken one by one":    {"upstream:\n  cluster: [a:6379]\nramp:\n  url: redis://new:6379\n", "migrate copy moves all of them"},
		"an address for REST where one for TCP is wanted": {tcp + "ramp:\n  url: https://new.upstash.io\n", "ramp.url: https:// is the REST address"},
		"replicas are addresses of APIs":                  {tcp + "serve:\n  replicas: [http://a:8080, \"b:8080\"]\n", "serve.replicas[1]: is not an address of an API"},
		"credentials are not shown":                       {tcp + "serve:\n  replicas: [\"http://u:secret@a:8080\"]\n", "serve.replicas[0]: has credentials in it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(inFile(c.file))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("problems = %s\nwant %q", got, c.want)
			}
			if strings.Contains(got, "secret") {
				t.Error("a secret is shown")
			}
		})
	}
}

func TestReplicasAreAListInTheEnvironmentToo(t *testing.T) {
	t.Parallel()
	c, err := Load(sources(map[string]string{"REDISOPT_REPLICAS": "http://a:8080, http://b:8080,"}, nil))
	if err != nil || len(c.Serve.Replicas) != 2 || c.Serve.Replicas[1] != "http://b:8080" {
		t.Errorf("replicas = %q, %v; want both", c.Serve.Replicas, err)
	}
	if _, err := Load(sources(map[string]string{"REDISOPT_REPLICAS": "http://a:8080,b"}, nil)); err == nil {
		t.Error("an address of nothing was taken")
	}
}

func TestTheNewSideIsNamedWithoutCredentials(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]Ramp{
		"":               {},
		"new:6379":       {URL: "redis://user:secret@new"},
		"/run/redis":     {URL: "unix:///run/redis"},
		"https://x.test": {RESTURL: "https://x.test"},
	} {
		if got := r.Addr(); got != want {
			t.Errorf("Addr() = %q, want %q", got, want)
		}
	}
}
