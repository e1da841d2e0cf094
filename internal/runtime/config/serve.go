package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
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

	// Replicas are the addresses of the API of every replica of serve, this one included, such as
	// http://10.0.0.7:8080. A migration asks them what they see, and an emergency tells each of them by
	// itself. Default none: only serve.listen is known.
	Replicas []string `yaml:"replicas" env:"REDISOPT_REPLICAS"`

	// ReplicasCA is the PEM file of the certificates that are trusted besides the system's when replicas are
	// asked over https://: of an own authority, or of one that signed itself. Default that of tls_cert.
	ReplicasCA string `yaml:"replicas_ca" env:"REDISOPT_REPLICAS_CA"`

	// ControlKey is the key of the control document in the upstream. Default redisopt:control.
	ControlKey string `yaml:"control_key" jsonschema:"minLength=1"`

	// ControlSweep is how often the control document is read without having been told of a change.
	// Default 6h, which is 120 commands in a 30-day month for each replica.
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

// serve reports what is wrong with how the sidecar listens and whom it lets in.
func (k *checker) serve() {
	s := k.config.Serve
	k.check("serve.listen", checkListen(s.Listen))
	k.check("serve.gateway_listen", checkListen(s.GatewayListen))
	if s.Listen == s.GatewayListen && !strings.HasSuffix(s.Listen, ":0") {
		k.bad("serve.gateway_listen", "is the same as serve.listen (%s); each needs an address of its own", printable(s.Listen))
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		k.bad("serve.tls_cert", "tls_cert and tls_key belong together; set both or neither")
	}
	if s.Replica != "" && !validName.MatchString(s.Replica) {
		k.bad("serve.replica", "got %s, want 1 to 64 letters, digits, dots, hyphens and underscores", quote(s.Replica))
	}
	for i, addr := range s.Replicas {
		k.check(fmt.Sprintf("serve.replicas[%d]", i), checkReplica(addr))
	}
	if s.Gateway.MaxBodyBytes < s.Gateway.MaxRequestBytes {
		k.bad("serve.gateway.max_body_bytes", "%d is less than max_request_bytes (%d)", s.Gateway.MaxBodyBytes, s.Gateway.MaxRequestBytes)
	}
	k.tokens()
	k.commandNames("serve.gateway.allow", s.Gateway.Allow)
}

func (k *checker) tokens() {
	s := k.config.Serve
	k.check("serve.token", checkSecret(s.Token.Reveal()))
	k.check("serve.readonly_token", checkSecret(s.ReadonlyToken.Reveal()))
	if s.Token != "" && s.Token == s.ReadonlyToken {
		k.bad("serve.readonly_token", "is the same as serve.token; whoever holds it could write")
	}
	names, secrets := map[string]int{}, map[Secret]string{s.Token: "serve.token", s.ReadonlyToken: "serve.readonly_token"}
	for i, t := range s.Tokens {
		key := fmt.Sprintf("serve.tokens[%d]", i)
		first, twice := names[t.Name]
		switch {
		case t.Name == "":
			k.bad(key+".name", "missing")
		case !validName.MatchString(t.Name):
			k.bad(key+".name", "got %s, want 1 to 64 letters, digits, dots, hyphens and underscores", quote(t.Name))
		case twice:
			k.bad(key+".name", "%s is also the name of serve.tokens[%d]", quote(t.Name), first)
		case t.Name == DefaultTokenName || t.Name == ReadonlyTokenName:
			k.bad(key+".name", "%s is the name of serve.token or serve.readonly_token; choose another", quote(t.Name))
		default:
			names[t.Name] = i
		}
		switch other, same := secrets[t.Token]; {
		case t.Token == "" && t.TokenFile == "":
			k.bad(key+".token", "missing; write token_file, or token")
		case t.Token != "" && same:
			k.bad(key+".token", "is the same as %s; a secret must say who uses it", other)
		case len(t.Token) < minTokenBytes && t.Token != "":
			k.bad(key+".token", "is shorter than %d bytes, which can be guessed; make one with: openssl rand -hex 32", minTokenBytes)
		default:
			secrets[t.Token] = key + ".token"
		}
		if err := checkSecret(t.Token.Reveal()); err != nil {
			k.bad(key+".token", "%s", err)
		}
		if len(t.Scopes) == 0 && (t.Gateway == NoAccess || t.Gateway == "") {
			k.bad(key+".scopes", "missing, and gateway is none: the token opens nothing")
		}
		k.commandNames(key+".allow", t.Allow)
	}
}

// checkSecret refuses what no client can send in a header. Its errors do not hold it.
func checkSecret(secret string) error {
	if len(secret) > 4096 || strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("holds a space, a line break or a letter outside ASCII, or is longer than 4096 bytes; no client could send it")
	}
	return nil
}

// The names under which serve.token and serve.readonly_token appear in logs and metrics.
const (
	DefaultTokenName  = "default"
	ReadonlyTokenName = "readonly"
)

// minTokenBytes is the shortest secret in serve.tokens. REDISOPT_TOKEN may be shorter, for trying out.
const minTokenBytes = 16

func (k *checker) commandNames(key string, names []string) {
	for i, name := range names {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._|", r)
		}) {
			k.bad(fmt.Sprintf("%s[%d]", key, i), "got %s, want the name of a command, such as KEYS", quote(name))
		}
	}
}

// checkListen refuses what is no address to listen on.
func checkListen(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("got %s, want host:port such as 127.0.0.1:8080", quote(addr))
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("got %s, whose port is no number from 0 (a free one) to 65535", quote(addr))
	}
	if err := checkHost(strings.ReplaceAll(host, ":", "")); err != nil {
		return fmt.Errorf("got %s, want host:port such as 127.0.0.1:8080", quote(addr))
	}
	return nil
}

// Loopback is whether addr, host:port, can be reached from this machine alone.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// unguarded reports addresses that other machines can reach while nothing guards them.
func (c *Config) unguarded() []*Problem {
	var all []*Problem
	guarded := func(needs func(Token) bool) bool {
		return c.Serve.Token != "" || c.Serve.ReadonlyToken != "" || slices.ContainsFunc(c.Serve.Tokens, needs)
	}
	for _, door := range []struct {
		key, addr string
		guarded   bool
	}{
		{"serve.listen", c.Serve.Listen, guarded(func(t Token) bool { return len(t.Scopes) > 0 })},
		{"serve.gateway_listen", c.Serve.GatewayListen, guarded(func(t Token) bool { return t.Gateway != NoAccess })},
	} {
		if !door.guarded && !Loopback(door.addr) && checkListen(door.addr) == nil {
			all = append(all, &Problem{
				Key: door.key, Origin: c.originNear(door.key),
				Message: fmt.Sprintf("%s can be reached from other machines, and no token guards it; set REDISOPT_TOKEN or REDISOPT_TOKEN_FILE, or listen on 127.0.0.1", printable(door.addr)),
			})
		}
	}
	return all
}

// checkReplica refuses what is no address of an API. Its errors do not hold it: there may be credentials in it.
func checkReplica(addr string) error {
	u, err := url.Parse(addr)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return errors.New("is not an address of an API; want http://HOST:8080")
	case u.User != nil:
		return errors.New("has credentials in it; the token is REDISOPT_TOKEN")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		return errors.New("has a path; want http://HOST:8080")
	}
	return nil
}
