package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/rest"
)

// Defaults of Options.
const (
	DefaultMaxConnections = 3
	DefaultTimeout        = 5 * time.Second
	DefaultDialTimeout    = 10 * time.Second
)

// Options say which Redis to reach and what may be spent on it. Exactly one of URL, Cluster,
// Sentinel.Addrs and REST.URL is set.
type Options struct {
	// URL is redis://, rediss:// (TLS) or unix://, with user, password and database number as
	// usual: rediss://user:password@host:6379/0. The port defaults to 6379.
	URL string

	// Cluster are seed addresses, host:port, of a Redis Cluster.
	Cluster []string

	// Sentinel finds the master through Sentinels.
	Sentinel Sentinel

	// REST reaches a Redis over HTTP, in the way of Upstash's REST API, and holds no connection to it.
	REST REST

	// Shared makes the ordinary commands of all clients travel over one shared connection; see Mux.
	// Subscriptions travel over the Bell, WATCH over a third connection that exists while it is needed.
	// Commands that wait for data, and those that change the state of a connection, are refused. RESP2
	// only, and not for a Cluster. Default false: a pool.
	Shared bool

	// Allow are further commands that may travel on the shared connection, lower case: those of
	// modules. Ordinary ones always may.
	Allow []string

	// Lazy makes Open connect to nothing and send nothing, so that it succeeds while the Redis is down:
	// the first command connects. Default false.
	Lazy bool

	// Username and Password, when not empty, replace those of the URL. With an ACL user both are
	// needed; Password alone is for the default user.
	Username string
	Password string

	// DB is the database number, 0 by default. A number in the URL is used when DB is 0. A Cluster
	// has only 0.
	DB int

	// TLS says how to use TLS.
	TLS TLS

	// ClientName, when not empty, is what CLIENT LIST shows. It costs one CLIENT SETNAME for every
	// connection; without it nothing is sent. Only letters, digits and -_.: are allowed.
	ClientName string

	// Protocol is the RESP version, 2 by default or 3. Replies of some commands differ.
	Protocol int

	// MaxConnections is the most connections to the Redis that exist at any time, those of pub/sub
	// included, over all nodes of a Cluster. Default 3. One is left for pub/sub: ordinary commands
	// share the others, or the single one there is. Connections to Sentinels are not in it, since
	// they do not end at the Redis; there are at most three of them.
	MaxConnections int

	// Timeout is how long to wait for a reply, and for a write to be taken, unless the context ends
	// earlier. Default 5s. A blocking command waits as long as it blocks, plus 10s.
	Timeout time.Duration

	// DialTimeout is how long one connection may take to be made, TLS and the attempts of a
	// reconnect included. Default 10s.
	DialTimeout time.Duration

	// Component is who spends, unless As says otherwise. Default meter.Control.
	Component meter.Component

	// Meter is told of every command; nil keeps the counts to this Upstream alone.
	Meter *meter.Meter

	// MaxCommands is the most commands to send, those that set up a connection included; 0 means no
	// limit. What would exceed it is refused before it is sent, with a *SpendError.
	MaxCommands int64

	// ReadOnly refuses, before it is sent, every command that is not known to be read-only, with a
	// *ReadOnlyError. Scripts are refused unless they are of the read-only kind (EVAL_RO).
	ReadOnly bool

	// Timed, when not nil, is told where the time went of each request over REST, and of each connection
	// over TCP, of which Server is 0. It is called from many goroutines and must not wait.
	Timed func(Timing)

	// idleAfter is how long a connection must have been unused for its loss to be an IdleClose.
	idleAfter time.Duration

	// parting bounds the wait for the server to let go of a connection that we have closed, and diagnosis how
	// long finding the reason of a failed Open may take on top.
	parting   time.Duration
	diagnosis time.Duration
}

// A Timing is where time went: connecting, TLS, and until the server's answer.
type Timing = rest.Timing

// Sentinel says how to find a master.
type Sentinel struct {
	// Addrs are the addresses of Sentinels, host:port.
	Addrs []string

	// Master is the name of the master; required with Addrs.
	Master string

	// Username and Password are for the Sentinels themselves; may be empty.
	Username string
	Password string
}

// REST says how to reach a Redis over HTTP.
type REST struct {
	// URL is https://host, as UPSTASH_REDIS_REST_URL has it.
	URL string

	// Token is the bearer token, UPSTASH_REDIS_REST_TOKEN.
	Token string
}

// TLS says how to use TLS. The zero value follows the URL: rediss:// means TLS with the system's
// certificate authorities and full verification.
type TLS struct {
	// Enabled turns TLS on for Cluster and Sentinel, where no URL says so, and for a redis:// URL.
	Enabled bool

	// CAFile is a file of PEM certificates to trust instead of the system's.
	CAFile string

	// CertFile and KeyFile are PEM files of a client certificate; both or neither.
	CertFile string
	KeyFile  string

	// ServerName is the name that the certificate must carry; default the host that is dialed.
	ServerName string

	// InsecureSkipVerify accepts any certificate. Anybody on the way can then read the password.
	InsecureSkipVerify bool
}

// A target is what Options mean once they are understood.
type target struct {
	network  string // "tcp" or "unix"
	addrs    []string
	username string
	password string
	db       int
	tls      *tls.Config // nil without TLS
}

func (o Options) withDefaults() Options {
	if o.MaxConnections == 0 {
		o.MaxConnections = DefaultMaxConnections
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = DefaultDialTimeout
	}
	if o.Protocol == 0 {
		o.Protocol = 2
	}
	if o.Component == "" {
		o.Component = meter.Control
	}
	if o.Meter == nil {
		o.Meter = meter.New()
	}
	if o.idleAfter == 0 {
		o.idleAfter = 10 * time.Second
	}
	if o.parting == 0 {
		o.parting = time.Second
	}
	if o.diagnosis == 0 {
		o.diagnosis = time.Second
	}
	return o
}

// resolve understands o, which has its defaults, and reports all problems at once.
func (o Options) resolve() (target, error) {
	t := target{network: "tcp", username: o.Username, password: o.Password, db: o.DB}
	errs := o.validate()
	wantTLS := o.TLS.Enabled
	switch {
	case o.URL != "":
		u, err := parseURL(o.URL)
		if err != nil {
			errs = append(errs, err)
			break
		}
		t.network, t.addrs = u.network, u.addrs
		if t.username == "" {
			t.username = u.username
		}
		if t.password == "" {
			t.password = u.password
		}
		if t.db == 0 {
			t.db = u.db
		}
		wantTLS = wantTLS || u.useTLS
	case len(o.Cluster) > 0:
		t.addrs = o.Cluster
	case o.REST.URL != "":
		t.network = "http"
		addr, err := restAddr(o.REST)
		if err != nil {
			errs = append(errs, err)
		}
		t.addrs = []string{addr}
	default:
		t.addrs = o.Sentinel.Addrs
	}
	if t.username != "" && t.password == "" {
		errs = append(errs, errors.New("password: empty, but a user name is set"))
	}
	if wantTLS {
		conf, err := o.TLS.config()
		if err != nil {
			errs = append(errs, err)
		}
		t.tls = conf
	}
	if err := errors.Join(errs...); err != nil {
		return target{}, &OptionsError{err}
	}
	return t, nil
}

func (o Options) validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	ways := 0
	for _, set := range []bool{o.URL != "", len(o.Cluster) > 0, len(o.Sentinel.Addrs) > 0, o.REST.URL != ""} {
		if set {
			ways++
		}
	}
	switch {
	case ways == 0:
		bad("no Redis to connect to: set a redis:// or rediss:// URL, a REST URL, cluster addresses, or sentinel addresses")
	case ways > 1:
		bad("more than one of URL, REST URL, cluster addresses and sentinel addresses is set; set exactly one")
	}
	for _, a := range o.Cluster {
		if err := checkAddr(a); err != nil {
			bad("cluster address: %w", err)
		}
	}
	for _, a := range o.Sentinel.Addrs {
		if err := checkAddr(a); err != nil {
			bad("sentinel address: %w", err)
		}
	}
	if len(o.Sentinel.Addrs) > 0 && o.Sentinel.Master == "" {
		bad("sentinel master: empty, want the name of the master")
	}
	if o.DB < 0 {
		bad("database: got %d, want 0 or more", o.DB)
	}
	if len(o.Cluster) > 0 && o.DB != 0 {
		bad("database: got %d, want 0, the only one a cluster has", o.DB)
	}
	if o.MaxConnections < 1 {
		bad("max_connections: got %d, want 1 or more", o.MaxConnections)
	}
	if o.Timeout < time.Millisecond {
		bad("timeout: got %s, want at least 1ms", o.Timeout)
	}
	if o.DialTimeout < time.Millisecond {
		bad("dial timeout: got %s, want at least 1ms", o.DialTimeout)
	}
	if o.MaxCommands < 0 {
		bad("max_commands: got %d, want 0 or more", o.MaxCommands)
	}
	if o.Protocol != 2 && o.Protocol != 3 {
		bad("protocol: got %d, want 2 or 3", o.Protocol)
	}
	if i := strings.IndexFunc(o.ClientName, func(r rune) bool {
		return !strings.ContainsRune("-_.:abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", r)
	}); i >= 0 {
		bad("client name %q: only letters, digits and -_.: are allowed", o.ClientName)
	}
	if o.REST.URL != "" && o.DB != 0 {
		bad("database: got %d, want 0, the only one over REST", o.DB)
	}
	if o.Shared && len(o.Cluster) > 0 {
		bad("shared: a cluster has a connection for each node, which cannot be shared; leave it off")
	}
	if o.Shared && o.Protocol != 2 {
		bad("shared: got protocol %d, want 2, the one that can be shared", o.Protocol)
	}
	if (o.TLS.CertFile == "") != (o.TLS.KeyFile == "") {
		bad("client certificate: certificate file and key file are both needed")
	}
	return errs
}

func checkAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return fmt.Errorf("%q is not host:port", withoutCredentials(addr))
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%q: port must be a number from 1 to 65535", withoutCredentials(addr))
	}
	return nil
}

// withoutCredentials drops everything before the last @, where an address pasted with its
// credentials has them.
func withoutCredentials(addr string) string {
	if i := strings.LastIndexByte(addr, '@'); i >= 0 {
		return addr[i+1:]
	}
	return addr
}

type parsedURL struct {
	network, username, password string
	addrs                       []string
	db                          int
	useTLS                      bool
}

// parseURL never puts the URL itself into an error: the password is in it.
func parseURL(raw string) (parsedURL, error) {
	if strings.TrimSpace(raw) != raw {
		return parsedURL{}, errors.New("url: spaces or a line break around it; remove them")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return parsedURL{}, errors.New("url: cannot be parsed; escape @ : / # ? and % in the password as %40 %3A %2F %23 %3F %25")
	}
	p := parsedURL{network: "tcp", username: u.User.Username()}
	p.password, _ = u.User.Password()
	switch strings.ToLower(u.Scheme) {
	case "redis":
	case "rediss":
		p.useTLS = true
	case "unix":
		p.network, p.addrs = "unix", []string{u.Path}
		if u.Path == "" {
			return p, errors.New("url: unix:// needs the path of a socket")
		}
		if v := u.Query().Get("db"); v != "" {
			if p.db, err = strconv.Atoi(v); err != nil || p.db < 0 {
				return p, fmt.Errorf("url: database %q is not a number", v)
			}
		}
		return p, nil
	case "http", "https":
		return p, fmt.Errorf("url: %s://%s is a REST address (UPSTASH_REDIS_REST_URL), but this needs TCP: set REDIS_URL=rediss://default:PASSWORD@%s:6379",
			strings.ToLower(u.Scheme), u.Host, u.Hostname())
	case "":
		return p, errors.New("url: no scheme; want redis://host:port, or rediss://host:port for TLS")
	default:
		return p, fmt.Errorf("url: unknown scheme %q; want redis://, rediss:// (TLS) or unix://", u.Scheme)
	}
	host, port := u.Hostname(), u.Port()
	if host == "" {
		return p, errors.New("url: no host")
	}
	if port == "" {
		port = "6379"
	}
	p.addrs = []string{net.JoinHostPort(host, port)}
	if err := checkAddr(p.addrs[0]); err != nil {
		return p, fmt.Errorf("url: %w", err)
	}
	if db := strings.Trim(u.Path, "/"); db != "" {
		if p.db, err = strconv.Atoi(db); err != nil || p.db < 0 {
			return p, fmt.Errorf("url: database %q is not a number", db)
		}
	}
	return p, nil
}

func (t TLS) config() (*tls.Config, error) {
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         t.ServerName,
		InsecureSkipVerify: t.InsecureSkipVerify, // an explicit choice, off by default
	}
	var errs []error
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		pool := x509.NewCertPool()
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("certificate authority: %w", err))
		case !pool.AppendCertsFromPEM(pem):
			errs = append(errs, fmt.Errorf("certificate authority: no PEM certificate in %s", t.CAFile))
		default:
			conf.RootCAs = pool
		}
	}
	if t.CertFile != "" && t.KeyFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			errs = append(errs, fmt.Errorf("client certificate: %w", err))
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, errors.Join(errs...)
}
