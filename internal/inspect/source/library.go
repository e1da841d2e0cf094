package source

import "strings"

// library is what importing a known package gives; nil for any other package.
func library(spec string) value {
	switch spec {
	case "bull":
		return bullModule()
	case "bullmq", "@taskforcesh/bullmq-pro":
		return bullmqModule()
	case "ioredis":
		return ioredisModule()
	case "redis", "@redis/client":
		return nodeRedisModule()
	case "bee-queue":
		return beeModule()
	case "@upstash/ratelimit":
		return ratelimitModule()
	case "@nestjs/common":
		return nestCommon()
	case "@nestjs/core":
		return nestCore()
	case "@nestjs/bullmq":
		return nestBull(BullMQ)
	case "@nestjs/bull":
		return nestBull(Bull)
	case "process", "node:process":
		return process()
	}
	if spec == "@upstash/redis" || strings.HasPrefix(spec, "@upstash/redis/") {
		return upstashModule()
	}
	return nil
}

// counts reports that importing a package can open connections, spend commands, or hold rules we know.
func counts(spec string) bool {
	switch spec {
	case "bull", "bullmq", "@taskforcesh/bullmq-pro", "ioredis", "redis", "@redis/client", "bee-queue", "@upstash/ratelimit", "@nestjs/bullmq", "@nestjs/bull":
		return true
	}
	return spec == "@upstash/redis" || strings.HasPrefix(spec, "@upstash/redis/")
}

// asModule gives a class or function the names by which it is imported.
func asModule(n *native, names ...string) *native {
	if n.props == nil {
		n.props = make(map[string]value)
	}
	for _, name := range append(names, "default") {
		n.props[name] = n
	}
	return n
}

// clientOf returns the client that a value is.
func clientOf(v value) *construction {
	o, ok := likely(v).(*object)
	if !ok {
		return nil
	}
	k, ok := o.native.(*construction)
	if !ok || k.kind != Client {
		return nil
	}
	return k
}

// connect sets how a queue gets its connection from the value it was given.
func (k *construction) connect(v value, present bool) {
	if c := clientOf(v); c != nil {
		k.link, k.client = lent, c
		c.used = true
		c.worker = c.worker || k.kind == Worker
		if isUnknown(v) {
			for _, a := range v.(*unknown).alts { //nolint:forcetypeassert // it is one
				if other := clientOf(a); other != nil {
					other.used = true
				}
			}
		}
		return
	}
	switch v := v.(type) {
	case nil, undefined, null:
		if !present {
			k.link = unlinked
		}
	case *unknown:
		// Alternatives that are all options still make it open its own; an environment variable is text.
		if len(v.alts) == 0 && v.env == "" {
			k.link = unlinked
		}
	}
}

// optionsOf returns the object of options among arguments; open says that there may be more to it.
func optionsOf(v value) (o *object, open bool) {
	switch v := likely(v).(type) {
	case *object:
		return v, v.open
	case *unknown:
		return nil, true
	}
	return nil, false
}

func nameOf(v value) string {
	s, _ := likely(v).(string)
	return s
}
