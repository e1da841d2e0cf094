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

	// Cache is the cache: how long entries live, and how long a caller waits.
	Cache Cache `yaml:"cache"`

	// Limits are the rate limits.
	Limits Limits `yaml:"limits"`

	// Queues are the job queues: what they are for, what depends on them, in which order they move.
	Queues Queues `yaml:"queues"`

	// Budgets are the limits on connections, commands, latency and money.
	Budgets budget.Budgets `yaml:"budgets"`

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

// Cache configures the cache.
type Cache struct {
	// Environment is the first part of every key, so that two environments can share a database.
	// Default none.
	Environment string `yaml:"environment"`

	// Prefix is the part of every key that says whose it is. Nothing outside it is ever deleted.
	// Default cache.
	Prefix string `yaml:"prefix" jsonschema:"minLength=1"`

	// DefaultTTL is how long an entry lives when its writer does not say. Default 1h.
	DefaultTTL time.Duration `yaml:"default_ttl" min:"1s"`

	// MaxTTL is the longest an entry may live; more is shortened to it, default times to live
	// included. Default 24h.
	MaxTTL time.Duration `yaml:"max_ttl" min:"1s"`

	// NegativeTTL is how long it is remembered that there is no such thing. Default 30s.
	NegativeTTL time.Duration `yaml:"negative_ttl" min:"1ms"`

	// Jitter is the largest share by which a default time to live is shortened at random, so that what
	// was written together does not expire together. Default 0.1; 0 means none.
	Jitter float64 `yaml:"jitter" jsonschema:"minimum=0,maximum=0.5"`

	// Deadline is the longest a cache operation may take in all, repetitions included; after it the
	// caller goes on without the cache. Default 150ms.
	Deadline time.Duration `yaml:"deadline" min:"1ms" max:"1m"`

	// L1Bytes is the most bytes that are kept in memory, keys and bookkeeping included. Default 67108864
	// (64 MiB); 0 turns the memory tier off.
	L1Bytes int `yaml:"l1_bytes" jsonschema:"minimum=0"`

	// L1MaxTTL is how long an entry in memory is at most believed without looking at the upstream, and
	// so how long the change of another replica can go unseen. One hot key costs 30 days divided by it,
	// in commands a month. Default 1m.
	L1MaxTTL time.Duration `yaml:"l1_max_ttl" min:"1ms"`

	// StaleOnError is how long after its end an entry in memory is still served, marked stale, while
	// the upstream does not answer. Default 1h; 0s means not at all.
	StaleOnError time.Duration `yaml:"stale_on_error" min:"0s"`

	// Bell is whether replicas tell each other at once what they deleted. Each delete then costs one
	// command more. Default false: they see it within l1_max_ttl.
	Bell bool `yaml:"bell"`

	// CompressFrom is the size in bytes from which values are compressed. Default 4096; 0 means never.
	CompressFrom int `yaml:"compress_from_bytes" jsonschema:"minimum=0"`

	// EncryptionKeys are the keys for entries of sensitive classes, ID:BASE64 with 32 bytes each,
	// separated by commas. The first encrypts, all of them decrypt: to rotate, put a new one in front, and drop
	// the old one after max_ttl. Default none: such entries are refused.
	EncryptionKeys Secret `yaml:"encryption_keys" env:"REDISOPT_CACHE_KEYS"`

	// NameSecret makes the names of sensitive entries unreadable; at least 16 bytes. Default derived
	// from the first of encryption_keys, so that a rotation leaves the old entries behind until they
	// expire.
	NameSecret Secret `yaml:"name_secret" env:"REDISOPT_CACHE_NAME_SECRET"`

	// Deny are names of what must not be cached: an entry with such a part in its key, or such a field
	// in its value, is refused unless its class is sensitive. Default password, secret, token and the
	// like; a list replaces them.
	Deny []string `yaml:"deny"`

	// Classes are the named times to live, by the class's name. A class in the file is added to the
	// default ones, or changes the one of its name.
	Classes map[string]Class `yaml:"classes"`

	// Namespaces are the first parts of keys that differ from the rest, by that part. Default none.
	Namespaces map[string]Namespace `yaml:"namespaces"`
}

// A Class is a named time to live.
type Class struct {
	// TTL is how long entries of the class live. Default cache.default_ttl.
	TTL time.Duration `yaml:"ttl" min:"1s"`

	// StaleFor is how much longer an entry is kept, served marked stale while one caller loads it
	// anew. Default 0s.
	StaleFor time.Duration `yaml:"stale_for" min:"0s"`

	// L1TTL is how long an entry in memory is believed without looking at the upstream; less than 0s
	// keeps the class out of memory. Entries of a sensitive class are in memory only if this is above
	// 0s, because there they are not encrypted. Default 0s: a tenth of ttl, at most cache.l1_max_ttl.
	L1TTL time.Duration `yaml:"l1_ttl"`

	// NegativeTTL is cache.negative_ttl for this class. Default 0s: the same.
	NegativeTTL time.Duration `yaml:"negative_ttl" min:"0s"`

	// Sensitive is whether entries hold secrets or personal data. They are then only stored
	// encrypted, in a namespace of their own. Default false.
	Sensitive bool `yaml:"sensitive"`

	// LimiterOnly is whether the class is for rate limits, and refused for cache entries. Default
	// false.
	LimiterOnly bool `yaml:"limiter_only"`
}

// A Namespace says how the keys are kept whose first part is its name.
type Namespace struct {
	// Codec is how values are written: raw bytes, json, msgpack, or ioredis-json for keys that are
	// shared with code that does JSON.parse(await redis.get(key)). Default raw.
	Codec Codec `yaml:"codec" jsonschema:"enum=raw,enum=json,enum=msgpack,enum=ioredis-json"`

	// Class is the class of entries whose writer names none. Default none.
	Class string `yaml:"class"`

	// OwnerParts is how many parts of a key after the namespace name its owner: with 1 all of
	// user:42:… is ended by invalidating user:42, for one command. Default 0.
	OwnerParts int `yaml:"owner_parts" jsonschema:"minimum=0,maximum=8"`

	// Guard is whether a value that was read before a delete is kept from being stored after it, also
	// between replicas. A delete then costs one command for each key. Default false.
	Guard bool `yaml:"guard"`

	// Allow are names from cache.deny that this namespace may hold after all. Default none.
	Allow []string `yaml:"allow"`
}

// Codec is how values are written.
type Codec string

// The codecs.
const (
	RawCodec     Codec = "raw"
	JSONCodec    Codec = "json"
	MsgPackCodec Codec = "msgpack"
	IORedisJSON  Codec = "ioredis-json"
)

// Limits configures the rate limits.
type Limits struct {
	// Environment is the first part of every key, so that two environments can share a database.
	// Default none.
	Environment string `yaml:"environment"`

	// Deadline is the longest a check may take in all; after it the rule's on_error decides. Default
	// 50ms.
	Deadline time.Duration `yaml:"deadline" min:"1ms" max:"1m"`

	// Instances is how many replicas of serve there are: without an upstream each of them counts up to
	// its share of a limit. Default 1.
	Instances int `yaml:"instances" jsonschema:"minimum=1,maximum=10000"`

	// HashKey is the secret under which telephone numbers and other hashed subjects are stored: the same
	// on all replicas, at least 16 bytes. Default none: the default rule sms is then left out, and any
	// other rule that needs it is refused.
	HashKey Secret `yaml:"hash_key" env:"REDISOPT_LIMIT_HASH_KEY"`

	// TrustedProxies are the networks, such as 10.0.0.0/8, whose X-Forwarded-For is believed when a
	// rule counts by address. Default none: the address of the connection counts.
	TrustedProxies []string `yaml:"trusted_proxies"`

	// Rules are the limits, by the rule's name. A rule in the file is added to the default ones, or
	// changes the one of its name.
	Rules map[string]Rule `yaml:"rules"`
}

// A Rule is one rate limit.
type Rule struct {
	// Limit is the number of requests allowed in each period. Required.
	Limit int `yaml:"limit" jsonschema:"minimum=1,maximum=1000000000"`

	// Period is the length of the window. Required, except with algorithm calendar, which has every.
	Period time.Duration `yaml:"period" min:"1ms" max:"8784h"`

	// Algorithm is how to count: sliding-window never admits more than the limit in any period, in
	// bounded memory; sliding-log the same, exact to the microsecond; sliding-counter and fixed-window
	// up to twice the limit in the worst period; token-bucket a burst and then a steady rate; calendar
	// a quota for each day or month. Default sliding-window.
	Algorithm Algorithm `yaml:"algorithm" jsonschema:"enum=sliding-window,enum=sliding-log,enum=sliding-counter,enum=fixed-window,enum=token-bucket,enum=calendar"`

	// Burst is how many requests a full token-bucket lets through at once. Default 0: the limit.
	Burst int `yaml:"burst" jsonschema:"minimum=0,maximum=1000000000"`

	// Buckets is into how many parts a sliding-window divides its period: a request counts at most one
	// part too long. Default 0: 60.
	Buckets int `yaml:"buckets" jsonschema:"minimum=0,maximum=3600"`

	// Every is the period of a calendar rule. Default day.
	Every Unit `yaml:"every" jsonschema:"enum=day,enum=month"`

	// TimeZone is where the days of a calendar rule begin, such as Europe/Berlin. Default UTC.
	TimeZone string `yaml:"time_zone"`

	// By is what requests are counted by: the user's id, the bearer token, the client's address (IPv6
	// by its /64), a telephone number, or the caller's own key. Default user.
	By Identity `yaml:"by" jsonschema:"enum=user,enum=token,enum=ip,enum=phone,enum=key"`

	// Tiers are limits for users of a tier, by its name; a tier that is not listed has limit. Default
	// none.
	Tiers map[string]int `yaml:"tiers" jsonschema:"minimum=1,maximum=1000000000"`

	// OnError is what happens when the upstream does not answer in time: local counts in this
	// process, open lets the request pass, closed refuses it. Default local.
	OnError OnError `yaml:"on_error" jsonschema:"enum=local,enum=open,enum=closed"`

	// Mode is what the answer is for: enforce refuses what is over the limit, warn lets it pass and
	// says so, shadow only counts it. Default enforce.
	Mode Mode `yaml:"mode" jsonschema:"enum=enforce,enum=warn,enum=shadow"`

	// Lease is whether tokens may be taken in advance, so that most checks cost no command: auto does
	// so where the limit is 200 a minute or more. Default auto.
	Lease Lease `yaml:"lease" jsonschema:"enum=auto,enum=on,enum=off"`

	// NearRatio is the used share of the limit from which an answer says that it is near. Default 0:
	// 0.8.
	NearRatio float64 `yaml:"near_ratio" jsonschema:"minimum=0,maximum=1"`

	// HashSubject is whether who was limited is only stored and reported hashed. Always so by phone and
	// token. Default false.
	HashSubject bool `yaml:"hash_subject"`

	// Legacy is the key of the sorted set in which the application's former limiter counts, with {user}
	// and {type} in it: what it holds counts too, so that a quota carries over. It costs one command
	// more for each check, and turns leases off. Default none.
	Legacy string `yaml:"legacy"`

	// LegacyShare makes that set the only place that is counted in, by the former limiter and by us.
	// Only with sliding-log. Default false.
	LegacyShare bool `yaml:"legacy_share"`
}

// Algorithm is how a rule counts.
type Algorithm string

// The algorithms.
const (
	SlidingWindow  Algorithm = "sliding-window"
	SlidingLog     Algorithm = "sliding-log"
	SlidingCounter Algorithm = "sliding-counter"
	FixedWindow    Algorithm = "fixed-window"
	TokenBucket    Algorithm = "token-bucket"
	Calendar       Algorithm = "calendar"
)

// Unit is the period of a calendar rule.
type Unit string

// The units.
const (
	Day   Unit = "day"
	Month Unit = "month"
)

// Identity is what a rule counts by.
type Identity string

// The identities.
const (
	ByUser  Identity = "user"
	ByToken Identity = "token"
	ByIP    Identity = "ip"
	ByPhone Identity = "phone"
	ByKey   Identity = "key"
)

// Mode is what a rule's answer is for.
type Mode string

// The modes.
const (
	Enforce Mode = "enforce"
	Warn    Mode = "warn"
	Shadow  Mode = "shadow"
)

// Lease is whether tokens may be taken in advance.
type Lease string

// The lease modes.
const (
	LeaseAuto Lease = "auto"
	LeaseOn   Lease = "on"
	LeaseOff  Lease = "off"
)

// OnError is what a limiter does without an upstream.
type OnError string

// What a limiter does without an upstream.
const (
	Local  OnError = "local"  // count in this process
	Open   OnError = "open"   // let everything pass
	Closed OnError = "closed" // refuse everything
)

// Queues configures the job queues.
type Queues struct {
	// Prefix is the key prefix of the queues in the upstream. Default bull, as Bull and BullMQ have
	// it.
	Prefix string `yaml:"prefix" jsonschema:"minLength=1"`

	// Defaults are what holds for each queue that does not say otherwise.
	Defaults QueueDefaults `yaml:"defaults"`

	// List is the queues. Default none.
	List []Queue `yaml:"list"`

	// Concurrency is how many jobs of all queues one process runs at the same time. Default 0: the sum of
	// what the queues allow.
	Concurrency int `yaml:"concurrency" jsonschema:"minimum=0,maximum=100000"`

	// Sweep is how often all queues are looked at for work that nobody announced, for 1 command each time,
	// by one replica for all. A crashed worker's job waits up to it longer. Default 5m45s, which is 7,514
	// commands in a 30-day month.
	Sweep time.Duration `yaml:"sweep" min:"10s" max:"1h"`

	// Presence is how often asynq's own tools are told that this process works. It costs about 5 commands
	// each time. Default 0s: never.
	Presence time.Duration `yaml:"presence" min:"0s" max:"24h"`

	// Watchdog is how long commands may go unanswered before the connections are made anew; after as long
	// again serve ends with an error, so that whoever supervises it starts it again. Default 2m.
	Watchdog time.Duration `yaml:"watchdog" min:"1s" max:"1h"`

	// Push is how jobs are sent to the application.
	Push Push `yaml:"push"`

	// Schedules are jobs that are added again and again, once for all replicas. Default none.
	Schedules []Schedule `yaml:"schedules"`
}

// QueueDefaults hold for every queue.
type QueueDefaults struct {
	// Attempts is how often a job is tried in all. Default 3.
	Attempts int `yaml:"attempts" jsonschema:"minimum=1,maximum=1000"`

	// Backoff is the pause before the second attempt; it doubles with each further one. Default 1s.
	Backoff time.Duration `yaml:"backoff" min:"0s"`

	// BacklogLimit is how many jobs a paused queue takes before its producers are told. Default
	// 10000; 0 means no limit.
	BacklogLimit int `yaml:"backlog_limit" jsonschema:"minimum=0"`

	// CatchUp is what happens to the backlog when a queue is resumed: staged runs it slowly, so that
	// not everything fires at once, all runs it at full speed, newest keeps only the newest job of
	// each schedule. Default staged.
	CatchUp CatchUp `yaml:"catch_up" jsonschema:"enum=staged,enum=all,enum=newest"`

	// FailureWarnAt is the share of failed jobs from which a warning is given. Default 0.05.
	FailureWarnAt float64 `yaml:"failure_warn_at" jsonschema:"minimum=0,maximum=1"`

	// FailureCriticalAt is the share of failed jobs that is critical. Default 0.1.
	FailureCriticalAt float64 `yaml:"failure_critical_at" jsonschema:"minimum=0,maximum=1"`

	// FailureMinJobs is how many jobs must have ended before their share of failures is judged.
	// Default 20.
	FailureMinJobs int `yaml:"failure_min_jobs" jsonschema:"minimum=1"`
}

// CatchUp is what happens to a backlog.
type CatchUp string

// What happens to a backlog when its queue is resumed.
const (
	Staged CatchUp = "staged" // slowly
	All    CatchUp = "all"    // at full speed
	Newest CatchUp = "newest" // only the newest job of each schedule
)

// A Queue is one job queue.
type Queue struct {
	// Name is the queue's name. Required.
	Name string `yaml:"name" jsonschema:"minLength=1"`

	// Criticality is critical when users notice within minutes that the queue stands still. Default
	// normal.
	Criticality Criticality `yaml:"criticality" jsonschema:"enum=normal,enum=critical"`

	// DependsOn are the queues without which this one stops being right after a while. Default none.
	DependsOn []string `yaml:"depends_on"`

	// MaxPause is how long this queue may be paused before a critical queue that depends on it
	// suffers. Default 0s: unknown, so it is not paused while a critical queue depends on it.
	MaxPause time.Duration `yaml:"max_pause" min:"0s"`

	// MigrationOrder is the queue's place in a migration, safest first, counted from 1. Default 0: no
	// place, after all that have one.
	MigrationOrder int `yaml:"migration_order" jsonschema:"minimum=0"`

	// Note is anything a person should know. Default none.
	Note string `yaml:"note"`

	// Mode is who runs the jobs: push sends them to endpoint, lease waits for the application to fetch
	// them, exec runs command, add takes jobs for other replicas to run. Default none: the queue is not
	// ours, it is only known.
	Mode QueueMode `yaml:"mode" jsonschema:"enum=push,enum=lease,enum=exec,enum=add"`

	// Endpoint is where push sends jobs: http:// or https://. Required with push.
	Endpoint URL `yaml:"endpoint"`

	// Command is the program that exec runs for each job, with its arguments; the job is on its standard
	// input. Required with exec.
	Command []string `yaml:"command"`

	// Exec is what the command may use.
	Exec Exec `yaml:"exec"`

	// Concurrency is how many jobs one process runs at the same time. Default 0: 1, and 100 with lease,
	// where the applications decide.
	Concurrency int `yaml:"concurrency" jsonschema:"minimum=0,maximum=100000"`

	// Rate limits how many jobs begin.
	Rate Rate `yaml:"rate"`

	// Attempts is queues.defaults.attempts for this queue. Default 0: the same.
	Attempts int `yaml:"attempts" jsonschema:"minimum=0,maximum=1000"`

	// Backoff is the pause between attempts.
	Backoff Backoff `yaml:"backoff"`

	// Final are parts of errors that are not tried again: the job becomes a dead letter at once. Default
	// none.
	Final []string `yaml:"final"`

	// Timeout is how long one attempt may take. Default 0s: 30m.
	Timeout time.Duration `yaml:"timeout" min:"0s" max:"24h"`

	// Completed is what stays of jobs that are done. Default an hour, at most 1000.
	Completed Keep `yaml:"completed"`

	// Failed is what stays of dead letters. Default 7 days, at most 100000.
	Failed Keep `yaml:"failed"`

	// MaxPayloadBytes is the largest payload. Default 0: 262144 (256 KiB).
	MaxPayloadBytes int `yaml:"max_payload_bytes" jsonschema:"minimum=0,maximum=104857600"`

	// SchemaFile is a file with the JSON Schema that every payload must match when it is added. Default
	// none.
	SchemaFile string `yaml:"schema_file"`

	// Lease is how long an application may be silent about a job it has fetched. Default 0s: 30s.
	Lease time.Duration `yaml:"lease" min:"0s" max:"24h"`

	// Batch is how items with one batch key are put together.
	Batch Batch `yaml:"batch"`
}

// Criticality is how much a queue matters.
type Criticality string

// The criticalities.
const (
	Normal   Criticality = "normal"
	Critical Criticality = "critical"
)

// Serve configures the sidecar.
type Serve struct {
	// Listen is where the API, health and metrics are, host:port. Without tokens only a loopback
	// address is allowed. Default 127.0.0.1:8080.
	Listen string `yaml:"listen" flag:"listen" jsonschema:"minLength=1"`

	// GatewayListen is where the Upstash-compatible gateway is, host:port. Without tokens only a
	// loopback address is allowed. Default 127.0.0.1:8079.
	GatewayListen string `yaml:"gateway_listen" flag:"gateway-listen" jsonschema:"minLength=1"`

	// TLSCert is the PEM file of the certificate with which both addresses speak TLS; tls_key is then
	// needed too. It is read again when the configuration is. Default none: plain HTTP.
	TLSCert string `yaml:"tls_cert"`

	// TLSKey is the PEM file of the certificate's private key. Default none.
	TLSKey string `yaml:"tls_key"`

	// StateDir is the directory for what must survive a restart: samples and cached control. Default
	// .redisopt in the working directory.
	StateDir string `yaml:"state_dir" flag:"state-dir" jsonschema:"minLength=1"`

	// Token is the bearer token that guards our own gateway and API. Default none.
	Token Secret `yaml:"token" env:"REDISOPT_TOKEN"`

	// ReadonlyToken is the bearer token that may only read. Default none.
	ReadonlyToken Secret `yaml:"readonly_token" env:"REDISOPT_READONLY_TOKEN"`

	// Tokens are further tokens, each with a name and what it may do. Default none.
	Tokens []Token `yaml:"tokens"`

	// ShutdownTimeout is how long requests under way may take after the first signal, before they are
	// cut off. Default 25s, within the 30s that orchestrators usually wait.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout" min:"0s" max:"1h"`

	// Replica is this process's name in the fleet: letters, digits, dots, hyphens and underscores.
	// Default the name of the host.
	Replica string `yaml:"replica" env:"REDISOPT_REPLICA"`

	// ControlKey is the key of the control document in the upstream. Default redisopt:control.
	ControlKey string `yaml:"control_key" jsonschema:"minLength=1"`

	// ControlSweep is how often the control document is read without having been told of a change.
	// Default 15m, which is 2,880 commands in a 30-day month for each replica.
	ControlSweep time.Duration `yaml:"control_sweep" min:"1m" max:"24h"`

	// SampleEvery is how often a sample is added to the history on disk. A sample costs one INFO, which
	// Upstash does not bill; elsewhere one a minute is 43,200 commands in a 30-day month. Default 1m.
	SampleEvery time.Duration `yaml:"sample_every" min:"10s" max:"1h"`

	// OpenMetrics lets /metrics be read without a token. Default false.
	OpenMetrics bool `yaml:"open_metrics"`

	// MaxBodyBytes is the largest body of a request to the API. Default 1048576 (1 MiB).
	MaxBodyBytes int `yaml:"max_body_bytes" jsonschema:"minimum=1024,maximum=1073741824"`

	// LogLevel is the least that is logged. Default info.
	LogLevel LogLevel `yaml:"log_level" jsonschema:"enum=debug,enum=info,enum=warn,enum=error"`

	// LogService is the field service of every log line. Default redisopt.
	LogService string `yaml:"log_service" jsonschema:"minLength=1"`

	// Gateway is what the gateway lets through.
	Gateway Gateway `yaml:"gateway"`
}

// LogLevel is the least that is logged.
type LogLevel string

// The log levels.
const (
	LogDebug LogLevel = "debug"
	LogInfo  LogLevel = "info"
	LogWarn  LogLevel = "warn"
	LogError LogLevel = "error"
)

// A Token is one bearer token with what it may do.
type Token struct {
	// Name is what logs and metrics call the token. Required.
	Name string `yaml:"name" jsonschema:"minLength=1"`

	// Token is the secret itself. Either this or token_file is required. Default none.
	Token Secret `yaml:"token"`

	// TokenFile is a file that holds the secret; one line break at its end is dropped. Default none.
	TokenFile string `yaml:"token_file"`

	// Scopes are what the token may do in the API: cache:read, cache:write, limit, queue, control:read,
	// metrics, or admin, which is everything. Default none of it.
	Scopes []string `yaml:"scopes" jsonschema:"enum=cache:read,enum=cache:write,enum=limit,enum=queue,enum=control:read,enum=metrics,enum=admin"`

	// Gateway is what the token may do at the gateway: none, read or write. Default none.
	Gateway GatewayAccess `yaml:"gateway" jsonschema:"enum=none,enum=read,enum=write"`

	// MaxPerSecond is the most requests a second with this token on each replica, at the gateway and at
	// the API each. Default 0: no limit.
	MaxPerSecond int `yaml:"max_per_second" jsonschema:"minimum=0"`

	// MaxConcurrent is the most requests with this token that the gateway answers at once, streams
	// among them. Default 0: no limit.
	MaxConcurrent int `yaml:"max_concurrent" jsonschema:"minimum=0"`

	// Allow are commands that the gateway lets this token use besides the usual ones, such as KEYS.
	// Default none.
	Allow []string `yaml:"allow"`
}

// GatewayAccess is what a token may do at the gateway.
type GatewayAccess string

// What a token may do at the gateway.
const (
	NoAccess    GatewayAccess = "none"
	ReadAccess  GatewayAccess = "read"
	WriteAccess GatewayAccess = "write"
)

// Gateway configures the gateway.
type Gateway struct {
	// Allow are commands that every token may use besides the usual ones, such as KEYS. FLUSHALL,
	// FLUSHDB, KEYS, CONFIG, DEBUG and SHUTDOWN are refused unless they are named here. Default none.
	Allow []string `yaml:"allow"`

	// MaxRequestBytes is the most bytes of one command's arguments together. Default 10485760 (10 MiB).
	MaxRequestBytes int `yaml:"max_request_bytes" jsonschema:"minimum=1024,maximum=1073741824"`

	// MaxReplyBytes is the largest reply to one command. Default 10485760 (10 MiB).
	MaxReplyBytes int `yaml:"max_reply_bytes" jsonschema:"minimum=1024,maximum=1073741824"`

	// MaxBodyBytes is the largest body of one HTTP request, at least max_request_bytes. Default
	// 33554432 (32 MiB).
	MaxBodyBytes int `yaml:"max_body_bytes" jsonschema:"minimum=1024,maximum=1073741824"`

	// MaxPipeline is the most commands in one request. Default 1000.
	MaxPipeline int `yaml:"max_pipeline" jsonschema:"minimum=1,maximum=100000"`

	// MaxClients is the most HTTP connections of all clients together. Default 10000.
	MaxClients int `yaml:"max_clients" jsonschema:"minimum=1,maximum=1000000"`

	// Timeout is how long a request may wait for the upstream; the gateway then answers that it did
	// not. Default 4s, less than the five after which @upstash/ratelimit lets its request pass.
	Timeout time.Duration `yaml:"timeout" min:"10ms" max:"4.9s"`

	// NoMonitor refuses /monitor, which shows every command and value of all clients. Default false.
	NoMonitor bool `yaml:"no_monitor"`
}
