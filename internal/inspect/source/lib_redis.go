package source

func ioredisModule() *native {
	redis := &native{name: "Redis", call: newIORedis}
	asModule(redis, "Redis")
	redis.props["Cluster"] = &native{name: "Cluster", call: func(ev *evaluator, c call) value {
		k := &construction{library: IORedis, kind: Client, place: c.place, options: newObject()}
		k.options.set("nodes", c.arg(0))
		return ev.build(k)
	}}
	return redis
}

// newIORedis is new Redis(port?, host?, options?) or new Redis(url?, options?).
func newIORedis(ev *evaluator, c call) value {
	k := &construction{library: IORedis, kind: Client, place: c.place}
	for _, a := range c.args {
		if o, ok := likely(a).(*object); ok {
			k.options = o
		}
	}
	if k.option("lazyConnect") == true {
		k.lazy = ev.useAt(c.place)
	}
	if k.options == nil || k.options.place.mod == nil {
		k.options = withURL(k.options, c)
	}
	return ev.build(k)
}

// withURL keeps an address given as text where rules look for it.
func withURL(o *object, c call) *object {
	url, ok := likely(c.arg(0)).(string)
	if !ok {
		return o
	}
	if o == nil {
		o = newObject()
	}
	o.set("url", url)
	return o
}

func nodeRedisModule() *native {
	create := func(ev *evaluator, c call) value {
		k := &construction{library: NodeRedis, kind: Client, place: c.place}
		k.options, _ = optionsOf(c.arg(0))
		k.lazy = ev.useAt(c.place) // it connects when it is told to
		return ev.build(k)
	}
	n := &native{name: "redis", props: map[string]value{
		"createClient": method("createClient", create),
		"createCluster": method("createCluster", func(ev *evaluator, c call) value {
			k := &construction{library: NodeRedis, kind: Client, place: c.place, options: newObject()}
			if o, _ := optionsOf(c.arg(0)); o != nil {
				k.options.set("nodes", o.field("rootNodes"))
			}
			k.lazy = ev.useAt(c.place)
			return ev.build(k)
		}),
	}}
	n.props["default"] = n
	return n
}

func upstashModule() *native {
	create := func(ev *evaluator, c call) value {
		k := &construction{library: Upstash, kind: Client, place: c.place}
		k.options, _ = optionsOf(c.arg(0))
		return ev.build(k)
	}
	redis := &native{name: "Redis", call: create, props: map[string]value{"fromEnv": method("fromEnv", func(ev *evaluator, c call) value {
		ev.env["UPSTASH_REDIS_REST_URL"], ev.env["UPSTASH_REDIS_REST_TOKEN"] = true, true
		return create(ev, c)
	})}}
	return &native{name: "@upstash/redis", props: map[string]value{"Redis": redis}}
}

func ratelimitModule() *native {
	limiter := &native{name: "Ratelimit", call: func(ev *evaluator, c call) value {
		k := &construction{library: Ratelimit, kind: Limiter, place: c.place}
		k.options, _ = optionsOf(c.arg(0))
		return ev.build(k)
	}}
	limiter.props = make(map[string]value)
	for _, name := range []string{"slidingWindow", "fixedWindow", "tokenBucket", "cachedFixedWindow"} {
		limiter.props[name] = method(name, func(*evaluator, call) value { return name })
	}
	return &native{name: "@upstash/ratelimit", props: map[string]value{"Ratelimit": limiter}}
}

func beeModule() *native {
	return asModule(&native{name: "BeeQueue", call: func(ev *evaluator, c call) value {
		k := &construction{library: BeeQueue, kind: Queue, queue: nameOf(c.arg(0)), place: c.place}
		k.options, _ = optionsOf(c.arg(1))
		k.connect(k.option("redis"), true)
		return ev.build(k)
	}})
}

// A command is one that the code sends, as far as a rule cares.
type command struct {
	client *construction
	name   string
	args   []value
	place  place

	// parsed is where JSON.parse is given the reply.
	parsed []place
}

func (k *construction) clientMethod(ev *evaluator, self *object, name string, c call) value {
	switch name {
	case "duplicate":
		copied := *k
		copied.place, copied.used = c.place, false
		if o, ok := c.arg(0).(*object); ok && o.has("lazyConnect") {
			copied.lazy = nil
		}
		return ev.build(&copied)
	case "on", "once", "addListener", "off", "removeListener":
		ev.maybeCall(c.arg(1), c.place, "runs on an event")
		return self
	case "quit", "disconnect", "close", "destroy":
		return undefined{}
	case "connect":
		k.used = true
		return self
	case "pipeline", "multi":
		k.used = true
		return &unknown{}
	}
	k.used = k.used || k.library != NodeRedis
	for _, a := range c.args {
		if isCallable(a) {
			ev.handOver(name, a, c.place)
		}
	}
	cmd := &command{client: k, name: name, args: c.args, place: c.place}
	ev.commands = append(ev.commands, cmd)
	return &unknown{from: cmd}
}
