package gateway

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
	"sync/atomic"
	"time"
)

// A caller is a Token at work.
type caller struct {
	name     string
	secret   [sha256.Size]byte // its SHA-256: comparing two of them tells nothing of a secret's length
	readOnly bool
	allow    map[string]bool // lower case; nil means none

	interval int64 // nanoseconds of one request at the limit; 0 is without limit
	burst    int64 // nanoseconds that may be spent at once
	spent    atomic.Int64

	concurrent int64 // 0 is without limit
	active     atomic.Int64

	requests atomic.Int64
	refused  atomic.Int64
}

func newCaller(t Token, name string, allow []string) *caller {
	c := &caller{name: name, secret: sha256.Sum256([]byte(t.Secret)), readOnly: t.ReadOnly, concurrent: int64(t.MaxConcurrent)}
	if !t.ReadOnly {
		c.allowNames(allow)
	}
	c.allowNames(t.Allow)
	if t.MaxPerSecond > 0 {
		c.interval = int64(time.Second) / int64(t.MaxPerSecond)
		c.burst = int64(time.Second)
	}
	return c
}

func (c *caller) allowNames(names []string) {
	for _, n := range names {
		if c.allow == nil {
			c.allow = make(map[string]bool)
		}
		c.allow[strings.ToLower(n)] = true
	}
}

// callers are all Tokens at work. They are replaced as a whole when the configuration changes.
type callers struct {
	all  []*caller
	open *caller // answers for everybody; nil unless Options.Open
}

func newCallers(tokens []Token, allow []string, open bool) *callers {
	cs := &callers{}
	if open {
		cs.open = newCaller(Token{}, "open", allow)
		cs.all = []*caller{cs.open}
	}
	for i, t := range tokens {
		cs.all = append(cs.all, newCaller(t, t.nameAt(i), allow))
	}
	return cs
}

// identify is who sent the credential, or nil. Every token is compared, in the same time.
func (cs *callers) identify(secret []byte) *caller {
	if cs.open != nil {
		return cs.open
	}
	if len(secret) == 0 {
		return nil
	}
	sum := sha256.Sum256(secret)
	var found *caller
	for _, c := range cs.all {
		if subtle.ConstantTimeCompare(sum[:], c.secret[:]) == 1 {
			found = c
		}
	}
	return found
}

// bearer is the credential in an Authorization header, or nil.
func bearer(header []byte) []byte {
	const scheme = "bearer "
	if len(header) < len(scheme) || !bytes.EqualFold(header[:len(scheme)], []byte(scheme)) {
		return nil
	}
	return bytes.TrimSpace(header[len(scheme):])
}

// queryToken is the credential in the query, or nil. It leaves the query as it is.
func queryToken(query []byte) []byte {
	for param := range bytes.SplitSeq(query, []byte{'&'}) {
		if value, ok := bytes.CutPrefix(param, []byte("_token=")); ok {
			token, err := unescapePercent(bytes.Clone(value), true)
			if err != nil {
				return nil
			}
			return token
		}
	}
	return nil
}

// admit takes one request of the caller's allowance. A text refuses it, and it is worth asking again after
// retry seconds; otherwise the caller calls done at the end.
func (c *caller) admit() (text string, retry int) {
	c.requests.Add(1)
	if c.concurrent > 0 && c.active.Add(1) > c.concurrent {
		c.active.Add(-1)
		c.refused.Add(1)
		return textConcurrent(c.concurrent), 1
	}
	if c.interval > 0 && !c.take(time.Now().UnixNano()) {
		c.done()
		c.refused.Add(1)
		return textRate(int64(time.Second) / c.interval), 1
	}
	return "", 0
}

// take is the generic cell rate algorithm: spent is the instant up to which the allowance is used.
func (c *caller) take(now int64) bool {
	for {
		old := c.spent.Load()
		next := max(old, now) + c.interval
		if next-now > c.burst {
			return false
		}
		if c.spent.CompareAndSwap(old, next) {
			return true
		}
	}
}

func (c *caller) done() {
	if c.concurrent > 0 {
		c.active.Add(-1)
	}
}
