package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

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
