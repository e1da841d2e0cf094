package config

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// A checker collects what contradicts what. A key that is already known to be wrong is not judged
// again: one mistake, one problem.
type checker struct {
	config   *Config
	known    map[string]bool
	problems []*Problem
}

// validate reports what is wrong between values, where every single one is well-formed, and notes
// warnings in c.
func (c *Config) validate(before []*Problem) []*Problem {
	k := checker{config: c, known: map[string]bool{}}
	for _, p := range before {
		k.known[p.Key] = true
	}
	k.upstream()
	k.ramp()
	k.cache()
	k.limits()
	k.queues()
	k.budgets()
	k.migrate()
	k.serve()
	k.warn()
	return k.problems
}

// bad reports a problem with key, placed where key was set, or at the nearest thing around it that
// has a place.
func (k *checker) bad(key, format string, args ...any) {
	if k.known[key] {
		return
	}
	k.known[key] = true
	k.problems = append(k.problems, &Problem{Key: key, Origin: k.config.originNear(key), Message: fmt.Sprintf(format, args...)})
}

// missing reports that key is not set anywhere.
func (k *checker) missing(key, format string, args ...any) {
	if !k.known[key] {
		k.problems = append(k.problems, &Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
}

func (k *checker) check(key string, err error) {
	if err != nil {
		k.bad(key, "%s", flat(err))
	}
}

func (k *checker) upstream() {
	u := k.config.Upstream
	if u.RESTURL != "" {
		k.check("upstream.rest_url", u.RESTURL.checkREST())
	}
	if u.URL != "" {
		k.check("upstream.url", u.URL.checkTCP())
	}
	if u.Host != "" {
		k.check("upstream.host", checkHost(u.Host))
		k.config.Upstream.Host = afterCredentials(u.Host)
	}
	switch {
	case u.RESTURL != "" && u.RESTToken == "":
		k.missing("upstream.rest_token", "missing, but upstream.rest_url is set (%s); set %s", k.config.originNear("upstream.rest_url"), k.tokenVariable())
	case u.RESTURL == "" && u.RESTToken != "":
		k.missing("upstream.rest_url", "missing, but upstream.rest_token is set (%s); set UPSTASH_REDIS_REST_URL", k.config.originNear("upstream.rest_token"))
	}
	for i, a := range u.Cluster {
		k.check(fmt.Sprintf("upstream.cluster[%d]", i), checkAddress(a))
		u.Cluster[i] = afterCredentials(a)
	}
	for i, a := range u.Sentinel.Addresses {
		k.check(fmt.Sprintf("upstream.sentinel.addresses[%d]", i), checkAddress(a))
		u.Sentinel.Addresses[i] = afterCredentials(a)
	}
	switch {
	case len(u.Sentinel.Addresses) > 0 && u.Sentinel.Master == "":
		k.bad("upstream.sentinel.master", "missing; Sentinels know their masters by name, often mymaster")
	case len(u.Sentinel.Addresses) == 0 && u.Sentinel.Master != "":
		k.bad("upstream.sentinel.addresses", "missing, but upstream.sentinel.master is set")
	}
	if (u.TLSFiles.Cert == "") != (u.TLSFiles.Key == "") {
		k.bad("upstream.tls_files", "cert and key belong together; set both or neither")
	}
	if u.Retry.Base > u.Retry.Cap {
		k.bad("upstream.retry.base", "%s is longer than upstream.retry.cap (%s)", durationText(u.Retry.Base), durationText(u.Retry.Cap))
	}
}

// afterCredentials is addr without what somebody pasted before its @, which is refused elsewhere and
// must not be shown.
func afterCredentials(addr string) string { return addr[strings.LastIndexByte(addr, '@')+1:] }

// tokenVariable is the variable that belongs to where the REST URL came from.
func (k *checker) tokenVariable() string {
	if strings.HasPrefix(k.config.origins["upstream.rest_url"].Name, "KV_") {
		return "KV_REST_API_TOKEN"
	}
	return "UPSTASH_REDIS_REST_TOKEN"
}

func (k *checker) queues() {
	q := k.config.Queues
	if d := q.Defaults; d.FailureWarnAt > d.FailureCriticalAt {
		k.bad("queues.defaults.failure_warn_at", "%g is above failure_critical_at (%g)", d.FailureWarnAt, d.FailureCriticalAt)
	}
	names, orders := map[string]int{}, map[int]string{}
	for i, queue := range q.List {
		key := fmt.Sprintf("queues.list[%d]", i)
		switch first, twice := names[queue.Name]; {
		case queue.Name == "":
			k.bad(key+".name", "missing")
		case twice:
			k.bad(key+".name", "%s is also the name of queues.list[%d]", quote(queue.Name), first)
		default:
			names[queue.Name] = i
		}
		if other, twice := orders[queue.MigrationOrder]; twice && queue.MigrationOrder > 0 {
			k.bad(key+".migration_order", "%d is also the place of queue %s", queue.MigrationOrder, printable(other))
		}
		orders[queue.MigrationOrder] = queue.Name
		k.jobs(key, queue)
	}
	k.push()
	k.schedules(names)
	for i, queue := range q.List {
		for j, on := range queue.DependsOn {
			key := fmt.Sprintf("queues.list[%d].depends_on[%d]", i, j)
			if _, ok := names[on]; !ok {
				k.bad(key, "no queue is named %s%s", printable(on), meant(suggest(on, slices.Sorted(maps.Keys(names)))))
			}
		}
	}
	if cycle := q.cycle(); cycle != nil {
		k.bad(fmt.Sprintf("queues.list[%d].depends_on", names[cycle[0]]), "goes round in a circle: %s", printable(strings.Join(cycle, " -> ")))
	}
}

func (k *checker) budgets() {
	err := k.config.Budgets.Validate()
	if err == nil {
		return
	}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, err := range all {
		if f, ok := errors.AsType[*budget.FieldError](err); ok {
			k.bad("budgets."+f.Field, "%s", f.Message)
		}
	}
}

// warn notes what is allowed but usually a mistake.
func (k *checker) warn() {
	c := k.config
	warn := func(key, format string, args ...any) {
		c.warnings = append(c.warnings, &Problem{Key: key, Origin: c.origins[key], Message: fmt.Sprintf(format, args...)})
	}
	if t, ok := c.TCP(); ok && t.URL != "" {
		if u, err := url.Parse(t.URL.Reveal()); err == nil && u.Scheme == "redis" {
			way, key := c.tcpWay()
			switch {
			case strings.HasSuffix(u.Hostname(), ".upstash.io") && way == wayHost:
				warn("upstream.tls", "Upstash speaks only TLS, and resets connections that do not; set REDIS_TLS=true")
			case strings.HasSuffix(u.Hostname(), ".upstash.io"):
				warn(key, "Upstash speaks only TLS, and resets connections that do not; write rediss:// instead of redis://")
			case way == wayURL && c.Upstream.TLS:
				warn(key, "begins with redis://, so TLS is not used although upstream.tls is set (%s); write rediss://", c.originNear("upstream.tls"))
			}
		}
	}
	for _, f := range leaves(c) {
		if o := c.origins[f.key]; o.Kind == FromFile && isSecret(f) {
			env, _, _ := strings.Cut(f.tag.Get("env"), ",")
			advice := "keep this file out of version control"
			if env != "" {
				advice += ", or set " + env + " or " + env + "_FILE instead"
			}
			warn(f.key, "is a secret; %s", advice)
		}
	}
}

// isSecret is whether a secret stands in f.
func isSecret(f leaf) bool {
	switch v := f.value.Interface().(type) {
	case Secret:
		return v != ""
	case URL:
		return v.hasPassword()
	default:
		return false
	}
}
