package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// TCP is how to reach the upstream over TCP. It holds secrets and is meant to be handed on, not
// printed. Exactly one of URL, Cluster and SentinelAddrs is set.
type TCP struct {
	// URL is redis://, rediss:// or unix://, with whatever credentials were written into it.
	URL URL

	// Cluster are the seed addresses, host:port, of a Redis Cluster.
	Cluster []string

	// SentinelAddrs are the addresses of Sentinels, SentinelMaster the master's name, and
	// SentinelUsername and SentinelPassword for the Sentinels themselves.
	SentinelAddrs    []string
	SentinelMaster   string
	SentinelUsername string
	SentinelPassword Secret

	// Username and Password go before those in the URL when they are not empty.
	Username string
	Password Secret

	// TLS is set when TLS is wanted and no URL says so: with Cluster and SentinelAddrs.
	TLS bool

	// TLSFiles are the certificate files.
	TLSFiles TLSFiles

	// Origin is where the address came from.
	Origin Origin
}

// REST is how to reach the upstream over the Upstash REST API.
type REST struct {
	URL    URL
	Token  Secret
	Origin Origin // of URL
}

// REST is the REST address and its token, and whether both are set.
func (c *Config) REST() (REST, bool) {
	u := c.Upstream
	return REST{u.RESTURL, u.RESTToken, c.origins["upstream.rest_url"]}, u.RESTURL != "" && u.RESTToken != ""
}

// TCP is how to reach the upstream over TCP, and whether that is configured. Of several addresses the
// one from the strongest source counts; from the same source, url goes before host, host before
// sentinel, sentinel before cluster.
func (c *Config) TCP() (TCP, bool) {
	u := c.Upstream
	way, key := c.tcpWay()
	t := TCP{TLSFiles: u.TLSFiles, Origin: c.origins[key], Username: u.Username, Password: u.Password}
	switch way {
	case wayURL:
		t.URL = u.URL
		if !c.credentialsBelongToURL() {
			t.Username, t.Password = "", ""
		}
	case wayHost:
		scheme := "redis"
		if u.TLS {
			scheme = "rediss"
		}
		host := strings.TrimSuffix(strings.TrimPrefix(u.Host, "["), "]")
		t.URL = URL(scheme + "://" + net.JoinHostPort(host, strconv.Itoa(u.Port)))
	case waySentinel:
		t.TLS = u.TLS
		t.SentinelAddrs, t.SentinelMaster = u.Sentinel.Addresses, u.Sentinel.Master
		t.SentinelUsername, t.SentinelPassword = u.Sentinel.Username, u.Sentinel.Password
	case wayCluster:
		t.TLS = u.TLS
		t.Cluster = u.Cluster
	case wayNone:
		return TCP{}, false
	}
	return t, true
}

// Hosts are the names or addresses of the servers, without credentials, as they may be shown.
func (t TCP) Hosts() []string {
	switch {
	case len(t.Cluster) > 0:
		return t.Cluster
	case len(t.SentinelAddrs) > 0:
		return t.SentinelAddrs
	}
	u, err := url.Parse(t.URL.Reveal())
	if err != nil {
		return nil
	}
	if u.Scheme == "unix" {
		return []string{u.Path}
	}
	if u.Port() == "" {
		return []string{net.JoinHostPort(u.Hostname(), "6379")}
	}
	return []string{u.Host}
}

type tcpWay int

const (
	wayNone tcpWay = iota
	wayURL
	wayHost
	waySentinel
	wayCluster
)

// tcpWay is the address that counts, and its key.
func (c *Config) tcpWay() (tcpWay, string) {
	u := c.Upstream
	ways := []struct {
		way tcpWay
		key string
		set bool
	}{
		{wayURL, "upstream.url", u.URL != ""},
		{wayHost, "upstream.host", u.Host != ""},
		{waySentinel, "upstream.sentinel.addresses", len(u.Sentinel.Addresses) > 0},
		{wayCluster, "upstream.cluster", len(u.Cluster) > 0},
	}
	best, key, strongest := wayNone, "", FromDefault
	for _, w := range ways {
		if kind := c.origins[w.key].Kind; w.set && (best == wayNone || kind > strongest) {
			best, key, strongest = w.way, w.key, kind
		}
	}
	return best, key
}

// credentialsBelongToURL is whether username and password complete a url that has none. They do not
// when another address is configured that they belong to: a password must not be sent to whatever
// server somebody typed behind --redis-url.
func (c *Config) credentialsBelongToURL() bool {
	u := c.Upstream
	elsewhere := u.Host != "" || len(u.Sentinel.Addresses) > 0 || len(u.Cluster) > 0 || c.urlReplaced
	return !elsewhere && !u.URL.hasPassword()
}

// hasPassword is whether a password stands in the URL, also in one that cannot be parsed.
func (u URL) hasPassword() bool {
	p, err := url.Parse(string(u))
	if err != nil {
		rest := string(u)
		if _, after, ok := strings.Cut(rest, "://"); ok {
			rest = after
		}
		user, _, at := strings.Cut(rest, "@")
		return at && strings.Contains(user, ":")
	}
	_, has := p.User.Password()
	return has || p.Query().Has("password")
}

// checkREST refuses what is no address of a REST API. Its errors do not hold the URL.
func (u URL) checkREST() error {
	p, err := url.Parse(string(u))
	if err != nil {
		return errors.New("is not a URL; want https://NAME.upstash.io")
	}
	switch strings.ToLower(p.Scheme) {
	case "http", "https":
	case "redis", "rediss":
		return fmt.Errorf("%s:// is an address for TCP, but this is for REST; set REDIS_URL to it, and UPSTASH_REDIS_REST_URL to https://%s",
			strings.ToLower(p.Scheme), p.Hostname())
	default:
		return errors.New("does not begin with https://; want https://NAME.upstash.io")
	}
	if p.Host == "" {
		return errors.New("has no host; want https://NAME.upstash.io")
	}
	if p.User != nil {
		return errors.New("has credentials in it; put the token into UPSTASH_REDIS_REST_TOKEN")
	}
	return nil
}

// checkTCP refuses what is no address of a Redis over TCP. Its errors do not hold the URL.
func (u URL) checkTCP() error {
	p, err := url.Parse(string(u))
	if err != nil {
		return errors.New("is not a URL; escape @ : / # ? and % in the password as %40 %3A %2F %23 %3F %25")
	}
	switch strings.ToLower(p.Scheme) {
	case "redis", "rediss":
	case "unix":
		if p.Path == "" {
			return errors.New("unix:// needs the path of a socket")
		}
		return nil
	case "http", "https":
		return fmt.Errorf("%s:// is the REST address, but this is for TCP; set UPSTASH_REDIS_REST_URL to it, and REDIS_URL to rediss://default:PASSWORD@%s:6379",
			strings.ToLower(p.Scheme), p.Hostname())
	default:
		return errors.New("does not begin with redis:// or rediss:// (TLS); want rediss://USER:PASSWORD@HOST:6379")
	}
	if p.Hostname() == "" {
		return errors.New("has no host; want rediss://USER:PASSWORD@HOST:6379")
	}
	if port := p.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return errors.New("has a port that is not a number from 1 to 65535")
		}
	}
	if db := strings.Trim(p.Path, "/"); db != "" {
		if n, err := strconv.Atoi(db); err != nil || n < 0 {
			return errors.New("has a path that is not a database number; want rediss://HOST:6379/0")
		}
	}
	return nil
}

// checkHost refuses what is more than a host.
func checkHost(host string) error {
	switch {
	case strings.Contains(host, "://"):
		return errors.New("is a URL, but only the server's name belongs here; set REDIS_URL to the whole URL instead")
	case strings.ContainsAny(host, "@/ "):
		return errors.New("is not a server's name; credentials go into REDIS_USERNAME and REDIS_PASSWORD")
	case strings.Count(host, ":") == 1:
		name, port, _ := strings.Cut(host, ":")
		return fmt.Errorf("has a port in it; set REDIS_HOST=%s and REDIS_PORT=%s", printable(name), printable(port))
	}
	return nil
}

func checkAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if n, numErr := strconv.Atoi(port); err != nil || numErr != nil || n < 1 || n > 65535 || checkHost(strings.ReplaceAll(host, ":", "")) != nil || host == "" {
		return errors.New("is not an address of the form host:port")
	}
	return nil
}
