package keys

import (
	"fmt"
	"slices"
	"strings"

	"github.com/redisopt/redisopt/internal/inspect"
)

const (
	manyElements = 1000    // from which a collection that never expires is worth a word
	bigBytes     = 1 << 20 // from which a key is
	fullShare    = 0.8     // of maxmemory, from which eviction is near
	// missingShare is the share of keys without expiry from which a short-lived prefix leaks.
	missingShare = 0.02
)

// judge fills the measures and findings.
func (a *audit) judge(keys []*Key) {
	a.judgeEviction()
	for _, k := range keys {
		if !k.gone {
			a.judgeKey(k)
		}
	}
	for _, p := range a.report.Prefixes {
		a.judgeExpiry(p)
		if !p.Family.owned() && p.Values != nil {
			a.judgeValues(p)
		}
	}
	order := []inspect.Severity{inspect.Critical, inspect.Warning, inspect.Note}
	slices.SortStableFunc(a.report.Findings, func(x, y inspect.Finding) int {
		return slices.Index(order, x.Severity) - slices.Index(order, y.Severity)
	})
	a.measures()
}

func (a *audit) add(rule string, s inspect.Severity, subject, message, remedy string) {
	a.report.Findings = append(a.report.Findings, inspect.Finding{
		Rule: rule, Severity: s, Subject: subject, Message: message, Remedy: remedy,
	})
}

// judgeEviction looks whether the server may throw jobs away when memory is full.
func (a *audit) judgeEviction() {
	m := a.memory
	if !m.known || m.policy == "noeviction" {
		return
	}
	var queues []string
	for _, p := range a.report.Prefixes {
		if p.Family.queue() {
			queues = append(queues, p.Name)
		}
	}
	if len(queues) == 0 {
		return
	}
	subject := queues[0]
	if len(queues) > 1 {
		subject = fmt.Sprintf("%s and %d more", queues[0], len(queues)-1)
	}
	severity, what := inspect.Warning, "may evict jobs"
	if strings.HasPrefix(m.policy, "volatile-") {
		what = "evicts the keys of queues that expire, such as locks and results"
	}
	switch upstash := a.report.Server.Provider == "upstash"; {
	case m.max == 0 && !upstash:
		severity, what = inspect.Note, what+" as soon as maxmemory is set, which it is not"
	case m.max > 0 && float64(m.used) > fullShare*float64(m.max) && !strings.HasPrefix(m.policy, "volatile-"):
		severity, what = inspect.Critical, fmt.Sprintf("%s, and memory is %.0f%% full", what, 100*float64(m.used)/float64(m.max))
	}
	a.add("queue-eviction", severity, subject,
		fmt.Sprintf("maxmemory-policy %s %s", m.policy, what),
		"set maxmemory-policy noeviction, or eviction off at the provider, and keep the cache in another database")
}

// judgeKey looks at one key: too large to read, or growing for ever.
func (a *audit) judgeKey(k *Key) {
	subject := shown(k.Name)
	if k.FullRead.OverLimit {
		s := inspect.Note
		if a.report.Server.Provider == "upstash" {
			s = inspect.Warning
		}
		a.add("full-read-over-limit", s, subject,
			fmt.Sprintf("%s gives about %s, and a request may have %s; in pieces it takes at least %d commands",
				k.FullRead.Command, Bytes(float64(*k.FullRead.Bytes)), Bytes(float64(a.opts.RequestLimit)), k.FullRead.Commands),
			"read pages (HSCAN, LRANGE, SSCAN, ZRANGE, XRANGE COUNT, GETRANGE), or divide the key")
	} else if k.Bytes != nil && *k.Bytes >= bigBytes && !k.Family.queue() {
		a.add("big-key", inspect.Note, subject,
			fmt.Sprintf("a %s of %s: each full read is that much traffic and holds up other clients", k.Type, Bytes(float64(*k.Bytes))),
			"read parts of it, or divide it; delete with UNLINK")
	}
	if !k.ttlKnown || k.TTLSeconds != nil || k.Elements == nil {
		return
	}
	n := *k.Elements
	end := k.Name[strings.LastIndexByte(k.Name, ':')+1:]
	switch {
	case k.Family == FamilyLimiter && strings.HasSuffix(k.Prefix, ":events"):
		a.add("limiter-analytics", inspect.Warning, subject,
			fmt.Sprintf("analytics of a limiter: %d elements that never expire, and one more command for each check", n),
			"create the limiter with analytics: false and delete the keys of "+shown(k.Prefix))
	case n < manyElements:
	case (k.Family == FamilyBull || k.Family == FamilyBullMQ) && (end == "completed" || end == "failed"):
		a.add("finished-jobs-kept", inspect.Warning, subject,
			fmt.Sprintf("%d %s jobs are kept, each with a hash of its own", n, end),
			"removeOnComplete: { age: 3600, count: 100 } and removeOnFail: { age: 86400, count: 1000 } as job options")
	case k.Family.queue() || k.Type == "hash" && k.Family != "":
	case k.Type == "zset", k.Type == "list", k.Type == "stream":
		a.add("grows-without-end", inspect.Note, subject,
			fmt.Sprintf("a %s of %d elements that never expires", k.Type, n),
			"give it an expiry, or bound it as it grows: LTRIM, ZREMRANGEBYRANK, XADD MAXLEN ~")
	}
}

// judgeExpiry looks whether what should be short-lived stays for ever.
func (a *audit) judgeExpiry(p Prefix) {
	if !p.Family.shortLived() || p.NoTTL.Hits == 0 || strings.HasSuffix(p.Name, ":events") {
		return
	}
	s, message := inspect.Note, fmt.Sprintf("%d of %d %s keys looked at never expire", p.NoTTL.Hits, p.NoTTL.Samples, p.Family)
	switch {
	case p.NoTTL.Insufficient:
		message += "; insufficient samples for a share"
	case *p.NoTTL.Low > missingShare:
		s = inspect.Warning
		message += fmt.Sprintf(" (%s of all)", p.NoTTL)
	}
	a.add("missing-ttl", s, shown(p.Name), message, "set the expiry in the command that writes: SET key value EX seconds")
}

// judgeValues looks what another client would make of the values.
func (a *audit) judgeValues(p Prefix) {
	v, subject := p.Values, shown(p.Name)
	n := v.Throws.Samples
	documents := v.Classes[ClassJSON] + v.Classes[ClassJSONString]
	ours := v.Classes[ClassEnvelope]
	switch text := v.Throws.Hits - ours; {
	case text > 0 && documents > 0:
		a.add("mixed-formats", inspect.Warning, subject,
			fmt.Sprintf("%d of %d values are no JSON and %d are: JSON.parse throws on the first, and a client that does not parse shows the others raw", text, n, documents),
			"let one client write, or catch what JSON.parse throws, before another client is put in its place")
	case text > 0:
		a.add("json-parse-throws", inspect.Note, subject,
			fmt.Sprintf("%s of values are no JSON, on which JSON.parse throws", v.Throws),
			"read them without JSON.parse; @upstash/redis gives them as they are")
	}
	if v.Changes.Hits > 0 {
		a.add("type-changes", inspect.Note, subject,
			fmt.Sprintf("%s of values are strings to a plain client and a number, boolean or null to @upstash/redis", v.Changes),
			"convert what is read, or create the client with automaticDeserialization: false")
	}
	if damaged := v.Damaged.Hits; damaged > 0 && v.Classes[ClassBinary]+v.Classes[ClassCompressed] > 0 {
		a.add("binary-values", inspect.Note, subject,
			fmt.Sprintf("%s of values are not UTF-8: a reply over REST damages them unless the client asks for base64", v.Damaged),
			"keep responseEncoding base64, or store them as base64")
	}
	if ours > 0 && documents > 0 {
		a.add("cache-envelope", inspect.Note, subject,
			fmt.Sprintf("%d of %d values were written by redisopt's cache, which other clients cannot read", ours, n),
			"give the cache a prefix that no other client writes")
	}
}

// measures are the numbers a gate may use.
func (a *audit) measures() {
	r := a.report
	add := func(name string, v float64, unit string, samples int, source string, labels map[string]string) {
		r.Measures = append(r.Measures, inspect.Measure{
			Name: name, Value: v, Unit: unit, Labels: labels,
			Evidence: inspect.Evidence{Source: source, Samples: samples, Missing: r.Missing},
		})
	}
	add("keys.total", float64(r.Keys), "key", 1, "DBSIZE", nil)
	for _, p := range r.Prefixes {
		labels := map[string]string{"prefix": shown(p.Name)}
		if p.Share.Value != nil {
			add("keys.share", *p.Share.Value, "share", p.Share.Samples, r.NamesFrom, labels)
		}
		if p.NoTTL.Value != nil {
			add("keys.no_ttl_share", *p.NoTTL.Value, "share", p.NoTTL.Samples, "PTTL", labels)
		}
		if p.TotalBytes != nil {
			add("keys.bytes", *p.TotalBytes, "byte", p.Detailed, r.SizeFrom, labels)
		}
	}
}
