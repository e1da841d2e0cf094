// Package config reads what an operator has configured: the environment, redisopt.yaml and the
// defaults, in that order of precedence, under the flags of one run. It knows where each value came
// from, masks secrets wherever a value is printed, and reports every problem at once, each with its
// place in the file.
//
// The package is inert. It opens no connection, logs nothing, and reads only the file, the
// environment and the secret files that it is pointed to.
//
// The struct Config is the only description of the file: its yaml tags name the keys, its doc
// comments become the schema's descriptions and the reference page, Default its defaults, and its
// env and flag tags the other ways to set a value.
package config

import (
	"time"

	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// Version is the schema number of the files this program reads and writes.
const Version = 1

// Config is everything that can be configured. Default returns the one that holds without a file.
type Config struct {
	// Version is the schema number of the file. Default 1; a newer one is refused.
	Version int `yaml:"version" jsonschema:"minimum=1,maximum=1"`

	// Upstream is the Redis that is paid for.
	Upstream Upstream `yaml:"upstream"`

	// Ramp is a second upstream, to which cache and limits move key by key.
	Ramp Ramp `yaml:"ramp"`

	// Cache is the cache: how long entries live, and how long a caller waits.
	Cache Cache `yaml:"cache"`

	// Limits are the rate limits.
	Limits Limits `yaml:"limits"`

	// Queues are the job queues: what they are for, what depends on them, in which order they move.
	Queues Queues `yaml:"queues"`

	// Budgets are the limits on connections, commands, latency and money.
	Budgets budget.Budgets `yaml:"budgets"`

	// Migrate is what migrations wait for and are judged by, unless a flag says otherwise.
	Migrate Migrate `yaml:"migrate"`

	// Upstash is how to ask Upstash's Developer API what it counts.
	Upstash Upstash `yaml:"upstash"`

	// Serve is what only the long-running sidecar uses.
	Serve Serve `yaml:"serve"`

	origins     map[string]Origin // by key; absent means default
	warnings    []*Problem
	urlReplaced bool // --redis-url took the place of another url
}

// Upstream says how to reach the Redis. There are two ways: over REST (rest_url and rest_token) and
// over TCP (url, or host and its companions, or sentinel, or cluster). Both may be set: cache and
// limits prefer REST, queues need TCP.
type Upstream struct {
	// RESTURL is the address of the Upstash REST API, beginning with https://. Default none.
	RESTURL URL `yaml:"rest_url" env:"UPSTASH_REDIS_REST_URL,KV_REST_API_URL"`

	// RESTToken is the bearer token for rest_url. Default none.
	RESTToken Secret `yaml:"rest_token" env:"UPSTASH_REDIS_REST_TOKEN,KV_REST_API_TOKEN"`

	// URL is the address for TCP: redis://, rediss:// (TLS) or unix://, with user, password and
	// database number as usual. Default none.
	URL URL `yaml:"url" env:"REDIS_URL" flag:"redis-url"`

	// Host is the server's name or address for TCP, when there is no url. Default none.
	Host string `yaml:"host" env:"REDIS_HOST"`

	// Port is the server's port, used with host. Default 6379.
	Port int `yaml:"port" env:"REDIS_PORT" jsonschema:"minimum=1,maximum=65535"`

	// Username is the ACL user, used with host, or with a url that names none. Default empty, which
	// is the server's user "default".
	Username string `yaml:"username" env:"REDIS_USERNAME"`

	// Password is the password, used with host, or with a url that has none. Default none.
	Password Secret `yaml:"password" env:"REDIS_PASSWORD"`

	// TLS is whether to use TLS with host, sentinel or cluster; a url says so by rediss://. Default
	// false.
	TLS bool `yaml:"tls" env:"REDIS_TLS"`

	// TLSFiles are the certificates, for servers that the system's authorities do not vouch for.
	TLSFiles TLSFiles `yaml:"tls_files"`

	// Sentinel is how to find the master through Redis Sentinel.
	Sentinel Sentinel `yaml:"sentinel"`

	// Cluster is the seed addresses, host:port, of a Redis Cluster. Default none.
	Cluster []string `yaml:"cluster"`

	// MaxConnections is the most TCP connections that may be open at any time, pub/sub included.
	// Default 3.
	MaxConnections int `yaml:"max_connections" jsonschema:"minimum=1,maximum=10000"`

	// Environment is what the upstream is for, in one word. Where it is production, redisopt bench loads it
	// only with --yes. Default none.
	Environment string `yaml:"environment" jsonschema:"pattern=^[A-Za-z0-9._-]*$"`

	// FleetConnections is the most connections that all replicas of serve together may hold, those of a
	// deploy included: a replica that would exceed it waits up to 2 minutes, and ends with exit code 75.
	// Default 0: budgets.connections.fleet times its deploy_factor, and no limit where that is 0 too.
	FleetConnections int `yaml:"fleet_connections" jsonschema:"minimum=0"`

	// Timeout is how long to wait for one reply. Default 5s.
	Timeout time.Duration `yaml:"timeout" flag:"timeout" min:"1ms" max:"10m"`

	// DialTimeout is how long making one connection may take, TLS included. Default 10s.
	DialTimeout time.Duration `yaml:"dial_timeout" min:"1ms" max:"10m"`

	// KeepAlive is how long a connection may be silent before it is probed. Default 30s.
	KeepAlive time.Duration `yaml:"keep_alive" min:"1s" max:"1h"`

	// Retry is how work in the background is repeated when the upstream does not answer. Calls that
	// somebody waits for are bounded by their own deadline instead (cache.deadline, limits.deadline).
	Retry Retry `yaml:"retry"`
}

// TLSFiles name PEM files.
type TLSFiles struct {
	// CA is a file of certificates to trust instead of the system's. Default none.
	CA string `yaml:"ca"`

	// Cert is the file of the client's certificate; key is then needed too. Default none.
	Cert string `yaml:"cert"`

	// Key is the file of the client's private key. Default none.
	Key string `yaml:"key"`

	// ServerName is the name that the server's certificate must carry. Default the host dialed.
	ServerName string `yaml:"server_name"`
}

// Sentinel says how to find a master.
type Sentinel struct {
	// Master is the name of the master; needed with addresses. Default none.
	Master string `yaml:"master"`

	// Addresses are those of the Sentinels, host:port. Default none.
	Addresses []string `yaml:"addresses"`

	// Username is the user for the Sentinels themselves. Default none.
	Username string `yaml:"username"`

	// Password is the password for the Sentinels themselves. Default none.
	Password Secret `yaml:"password"`
}

// Retry says how to repeat. The pause before attempt n+1 is base doubled n times, at most cap, with
// full jitter; there is no pause after the last attempt. With the defaults one operation pauses for
// at most 1+2+4 = 7 s.
type Retry struct {
	// Retries is how often an operation is repeated after its first attempt. Only operations that may
	// run twice are repeated. Default 3.
	Retries int `yaml:"retries" jsonschema:"minimum=0,maximum=20"`

	// Base is the pause before the first repetition. Default 1s.
	Base time.Duration `yaml:"base" min:"1ms" max:"10m"`

	// Cap is the longest pause. Default 10s.
	Cap time.Duration `yaml:"cap" min:"1ms" max:"10m"`

	// Share is the most repetitions may add to all operations, as a share, so that an outage does
	// not multiply the load. Default 0.1.
	Share float64 `yaml:"share" jsonschema:"minimum=0,maximum=1"`
}
