package config

// Need is what a command or feature needs of the configuration. The zero value needs nothing.
type Need struct {
	// Upstream needs any way to the upstream: REST or TCP. Cache and limits need no more.
	Upstream bool

	// Queues needs TCP, because REST cannot wait for a job.
	Queues bool

	// Connections needs TCP, because REST has no connections to look at.
	Connections bool

	// REST needs the REST pair.
	REST bool

	// Token needs a token for our own gateway and API.
	Token bool

	// Limits needs what the rules need besides an upstream.
	Limits bool

	// Serve needs that what listens beyond this machine is guarded by a token, and the same as Limits.
	Serve bool
}

// Require reports all that is missing for need, each as a *Problem that names the alternatives, or
// nil.
func (c *Config) Require(need Need) error { return joined(c.missing(need)) }

const tcpAlternatives = "set REDIS_URL (rediss://USER:PASSWORD@HOST:6379), or REDIS_HOST with REDIS_PASSWORD; each also as NAME_FILE, or under upstream: in the file"

func (c *Config) missing(need Need) []*Problem {
	var all []*Problem
	bad := func(message string) { all = append(all, &Problem{Message: message}) }

	_, tcp := c.TCP()
	_, rest := c.REST()
	// Half a pair is already reported as such; that no upstream is set would be the second problem
	// for one mistake.
	half := c.Upstream.RESTURL != "" || c.Upstream.RESTToken != ""

	unused := ""
	switch {
	case rest:
		unused = " (the REST pair is set, but REST cannot do this)"
	case c.Upstream.Password != "":
		unused = " (a password is set, but no server)"
	}
	if need.Queues && !tcp {
		bad("queues need a Redis over TCP" + unused + "; " + tcpAlternatives)
	}
	if need.Connections && !tcp && !need.Queues {
		bad("connections can only be examined over TCP" + unused + "; " + tcpAlternatives)
	}
	if need.REST && !rest && !half {
		bad("no REST address; set UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN")
	}
	if need.Upstream && !need.Queues && !need.Connections && !need.REST && !tcp && !rest && !half {
		bad("no Redis to work on" + unused + "; " + tcpAlternatives + "; or UPSTASH_REDIS_REST_URL with UPSTASH_REDIS_REST_TOKEN for REST")
	}
	if need.Token && c.Serve.Token == "" {
		bad("no token guards the gateway and the API; set REDISOPT_TOKEN or REDISOPT_TOKEN_FILE")
	}
	if need.Serve {
		all = append(all, c.unguarded()...)
	}
	if need.Serve || need.Limits {
		all = append(all, c.unhashable()...)
	}
	return all
}
