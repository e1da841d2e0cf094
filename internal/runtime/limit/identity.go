package limit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// A Subject is who asks, as far as it is known.
type Subject struct {
	// User is the id of a user who is signed in. "undefined" and "null" count as missing: they are what
	// a program in JavaScript writes when it has none.
	User string `json:"user,omitempty"`

	// Token is a bearer token or API key. It never appears in a key or event except hashed.
	Token string `json:"token,omitempty"`

	// IP is the address of the client, see ClientIP.
	IP netip.Addr `json:"ip,omitzero"`

	// Phone is a telephone number; spaces and punctuation are ignored.
	Phone string `json:"phone,omitempty"`

	// Key is whatever the caller wants to count by.
	Key string `json:"key,omitempty"`
}

// maxSubject is the longest subject in a key; a longer one is replaced by its hash.
const maxSubject = 128

// name is who a rule counts, as it stands in the key, and the literal value for the former limiter's
// key. The first letter says what kind of subject it is, so that a user can never be taken for an
// address.
func (s Subject) name(r Rule, hashKey []byte) (name, literal string, err error) {
	kind, value := s.pick(r.By)
	if value == "" {
		return "", "", fmt.Errorf("rule %s counts by %s: %w", r.Name, r.By, ErrNoIdentity)
	}
	if r.HashSubject || kind == "t" {
		return kind + "#" + digest(hashKey, r.Name, value), value, nil
	}
	if len(value) > maxSubject {
		return kind + "~" + digest(nil, "", value), value, nil
	}
	return kind + "=" + escape(value), value, nil
}

// pick is the kind and value to count by. ByUser, ByToken and ByIP go on to the next thing that is known.
func (s Subject) pick(by Identity) (kind, value string) {
	switch by {
	case ByPhone:
		return "p", phoneDigits(s.Phone)
	case ByKey:
		return "k", known(s.Key)
	case ByUser, ByToken, ByIP:
	}
	if by == ByUser && known(s.User) != "" {
		return "u", s.User
	}
	if by != ByIP && known(s.Token) != "" {
		return "t", s.Token
	}
	if s.IP.IsValid() {
		return "ip", Network(s.IP).String()
	}
	return "", ""
}

// known is value, or nothing when it stands for nothing.
func known(value string) string {
	switch strings.TrimSpace(value) {
	case "", "undefined", "null", "NaN", "[object Object]":
		return ""
	}
	return value
}

// phoneDigits is a number without what people write between its digits.
func phoneDigits(number string) string {
	var b strings.Builder
	for _, r := range number {
		if r >= '0' && r <= '9' || r == '+' && b.Len() == 0 {
			b.WriteRune(r)
		}
	}
	if b.Len() < 2 {
		return ""
	}
	return b.String()
}

// Network is what an address is counted as: an IPv4 address itself, an IPv6 address's /64, which is the
// least that one customer has.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// ClientIP is the address of the client of an HTTP request: remote (host:port or an address) itself, or,
// when that is a trusted proxy, the last address in the X-Forwarded-For lines that is not one. What
// stands before an untrusted address is never read, because the client may have written it.
func ClientIP(remote string, forwardedFor []string, trusted []netip.Prefix) (netip.Addr, error) {
	client, ok := parseAddr(remote)
	if !ok {
		return netip.Addr{}, fmt.Errorf("remote address %q: not an address", remote)
	}
	hops := strings.Split(strings.Join(forwardedFor, ","), ",")
	for i := len(hops) - 1; i >= 0 && isTrusted(client, trusted); i-- {
		hop := strings.TrimSpace(hops[i])
		if hop == "" {
			continue
		}
		next, ok := parseAddr(hop)
		if !ok {
			break // a proxy wrote something else; it is itself the last that is known
		}
		client = next
	}
	return client, nil
}

// parseAddr reads an address, with or without a port.
func parseAddr(s string) (netip.Addr, bool) {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return a.Unmap().WithZone(""), err == nil
}

func isTrusted(a netip.Addr, trusted []netip.Prefix) bool {
	for _, p := range trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// escape is s in the letters that a key may have; different values stay different.
func escape(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.@+-"
	clean := true
	for i := range len(s) {
		if strings.IndexByte(plain, s[i]) < 0 {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(plain, s[i]) >= 0 {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}

// digest is 128 bits of an HMAC-SHA-256 in hex. The rule's name is part of it, so that one number has
// different names under different rules.
func digest(key []byte, rule, value string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(rule))
	mac.Write([]byte{0})
	mac.Write([]byte(value))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
