package source

import "slices"

// A Library is a package that talks to a Redis.
type Library string

// The libraries that are known.
const (
	Bull      Library = "bull"
	BullMQ    Library = "bullmq"
	IORedis   Library = "ioredis"
	NodeRedis Library = "redis"
	BeeQueue  Library = "bee-queue"
	Upstash   Library = "@upstash/redis"
	Ratelimit Library = "@upstash/ratelimit"
	GoRedis   Library = "go-redis"
	Asynq     Library = "asynq"
)

// A Kind is what a library makes.
type Kind string

// The kinds.
const (
	Queue        Kind = "queue"
	Worker       Kind = "worker"
	QueueEvents  Kind = "queue-events"
	FlowProducer Kind = "flow-producer"
	Client       Kind = "client"
	Server       Kind = "server"
	Limiter      Kind = "limiter"
)

// A link is how a queue or worker gets its connection.
type link int

const (
	own      link = iota // it opens its own
	lent                 // an instance that others may use too
	unlinked             // the code does not say
)

// A construction is one thing that a library makes in one process.
type construction struct {
	library Library
	kind    Kind
	queue   string // "" when not known
	place   place
	guards  []guard

	// options is what it was constructed with, nil when the code does not show it.
	options *object

	link   link
	client *construction // of a lent instance

	// Bull: what was called on the queue, and where.
	processed *use
	listened  *use
	factory   bool // connections come from a createClient function

	// A client that only connects when it is used.
	lazy *use
	used bool

	// What a client is for: the blocking part of a BullMQ worker, or a role of Bull's createClient.
	worker bool
	roles  []string

	// removes says that a call of add() removes finished jobs.
	removes bool

	// delayed is where something is scheduled for later on a queue.
	delayed *use

	self *object

	// Go: what is held and spent is known where it is made.
	holds    *span
	spends   *spend
	goClient *goClient
	lbrace   goPlace // of the options
}

// A use is a call that makes more of a construction.
type use struct {
	place  place
	guards []guard
}

func (ev *evaluator) useAt(p place) *use { return &use{place: p, guards: slices.Clone(ev.guards)} }

// build records a construction and returns the object that stands for it.
func (ev *evaluator) build(k *construction) *object {
	k.guards = slices.Clone(ev.guards)
	o := newObject()
	o.native = k
	k.self = o
	ev.made = append(ev.made, k)
	return o
}

// option returns a property of the options, nil when it is absent or not known.
func (k *construction) option(path ...string) value {
	o := k.options
	for i, name := range path {
		if o == nil {
			return nil
		}
		v := o.field(name)
		if i == len(path)-1 {
			return v
		}
		o, _ = likely(v).(*object)
	}
	return nil
}

// connections are how many the construction holds.
func (k *construction) connections() []weighed {
	one := func(n float64) []weighed { return []weighed{{k.guards, span{min: n, max: n}}} }
	switch {
	case k.holds != nil:
		return []weighed{{k.guards, *k.holds}}
	case k.library == Bull:
		return k.bullConnections()
	case k.library == BeeQueue:
		return k.beeConnections()
	case k.library == Upstash || k.library == Ratelimit:
		return nil
	case k.kind == Client && k.lazy != nil && !k.used:
		return []weighed{{k.guards, span{min: 0, max: 1}}}
	case k.kind == Client:
		return one(k.nodes())
	}
	base, dedicated := 1.0, 0.0
	switch k.kind {
	case Worker:
		base, dedicated = 2, 1
	case QueueEvents:
		base, dedicated = 1, 1
	case Queue, FlowProducer, Client, Server, Limiter:
	}
	switch k.link {
	case lent:
		return one(dedicated)
	case unlinked:
		return []weighed{{k.guards, span{min: dedicated, max: base}}}
	case own:
	}
	return one(base)
}

// nodes is how many connections a client holds: one, or one for each node of a cluster.
func (k *construction) nodes() float64 {
	if a, ok := k.option("nodes").(*array); ok && len(a.items) > 0 {
		return float64(len(a.items))
	}
	return 1
}

// bullConnections: a client at once; a subscriber and a blocking client with process(), the
// subscriber also with a listener for global events. What createClient makes counts where it is made.
func (k *construction) bullConnections() []weighed {
	if k.factory {
		return nil
	}
	out := []weighed{{k.guards, span{min: 1, max: 1}}}
	switch {
	case k.processed != nil:
		out = append(out, weighed{k.processed.guards, span{min: 2, max: 2}})
	case k.listened != nil:
		out = append(out, weighed{k.listened.guards, span{min: 1, max: 1}})
	}
	if k.link == unlinked {
		for i := range out {
			out[i].span.min = 0
		}
	}
	return out
}

// beeConnections: a client, one to block on and one for events, unless turned off.
func (k *construction) beeConnections() []weighed {
	n := 1.0
	if k.link == lent {
		n = 0
	}
	for _, name := range []string{"isWorker", "getEvents"} {
		if k.option(name) != false {
			n++
		}
	}
	return []weighed{{k.guards, span{min: n, max: n}}}
}

// consumes reports that it waits for jobs.
func (k *construction) consumes() bool {
	return k.kind == Worker || k.library == Bull && k.processed != nil
}
