package connections

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A key identifies a connection: ids are unique on one node only.
type key struct {
	node string
	id   int64
}

// A memory is what earlier samples proved. A busy worker's last command is CLIENT SETNAME, the same in
// Bull and BullMQ; once it has been seen blocked, its library is known as long as it lives.
type memory map[key]Library

// attribute gives every connection its library, role, queue and reason. The connections' Process must
// be set already; channels are the active ones of PUBSUB CHANNELS.
func attribute(conns []Connection, channels []string, known memory) {
	for i := range conns {
		byItself(&conns[i])
	}
	bullQueues := delayedChannels(conns, channels)
	for _, g := range groups(conns) {
		g.resolveWorkers(bullQueues, known)
	}
	libs := librariesOf(conns, len(bullQueues) > 0)
	for _, g := range groups(conns) {
		g.bull()
		g.bullmq()
		g.rest(libs, len(bullQueues) > 0)
	}
	for i := range conns {
		c := &conns[i]
		if c.Role == RoleWorker && (c.Library == LibraryBull || c.Library == LibraryBullMQ) && c.Confidence == Certain {
			known[key{c.Node, c.ID}] = c.Library
		}
	}
}

// byItself decides what a connection shows alone: server links, names, blocking commands.
func byItself(c *Connection) {
	cl := c.client
	switch {
	case strings.ContainsAny(cl.Flags, "SM"):
		c.set(RoleReplica, LibraryNone, Certain, "replication link")
		return
	case strings.Contains(cl.Flags, "O"):
		c.set(RoleMonitor, LibraryNone, Certain, "runs MONITOR")
		return
	case cl.Name == "":
		return
	}
	n, ok := ParseName(cl.Name)
	if !ok {
		byGivenName(c)
		return
	}
	c.Prefix, c.Queue, c.Worker = n.Prefix, n.Queue, n.Worker
	switch {
	case n.Events:
		c.set(RoleEvents, LibraryBullMQ, Certain, "named for QueueEvents of this queue")
	case cl.Command == "bzpopmin":
		c.set(RoleWorker, LibraryBullMQ, Certain, "named for this queue and blocks in BZPOPMIN")
	case cl.Command == "brpoplpush":
		c.set(RoleWorker, LibraryBull, Certain, "named for this queue and blocks in BRPOPLPUSH")
	case n.Worker != "":
		c.set(RoleWorker, LibraryBullMQ, Certain, "only BullMQ adds a worker's name")
	default:
		c.set(RoleWorker, LibraryEither, Likely, "named for this queue, but has not been seen blocking")
	}
}

func byGivenName(c *Connection) {
	name := strings.ToLower(c.Name)
	for _, w := range []struct {
		part string
		role Role
	}{{"sms", RoleSMS}, {"limit", RoleLimiter}, {"throttle", RoleLimiter}, {"cache", RoleCache}, {"pool", RolePool}} {
		if strings.Contains(name, w.part) {
			c.set(w.role, LibraryNone, Likely, fmt.Sprintf("the application named it %q", c.Name))
			return
		}
	}
	if c.client.Subscribed() {
		c.set(RolePubSub, LibraryNone, Certain, "a subscriber with the application's own name")
		return
	}
	c.set(RoleApp, LibraryNone, Likely, fmt.Sprintf("the application named it %q", c.Name))
}

func (c *Connection) set(r Role, l Library, conf Confidence, why string) {
	c.Role, c.Library, c.Confidence, c.Why = r, l, conf, why
}

func (c *Connection) in(w *Connection) { c.Prefix, c.Queue = w.Prefix, w.Queue }

// A group is the connections of one process, or of one host where processes cannot be told apart.
type group struct {
	where string
	all   []*Connection
}

func groups(conns []Connection) []*group {
	byProcess := make(map[string]*group)
	var order []*group
	for i := range conns {
		c := &conns[i]
		if c.Own {
			continue
		}
		g := byProcess[c.Process]
		if g == nil {
			g = &group{where: c.Process}
			byProcess[c.Process] = g
			order = append(order, g)
		}
		g.all = append(g.all, c)
	}
	for _, g := range order {
		slices.SortFunc(g.all, func(a, b *Connection) int {
			return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID))
		})
	}
	return order
}

func (g *group) pick(keep func(*Connection) bool) []*Connection {
	var out []*Connection
	for _, c := range g.all {
		if keep(c) {
			out = append(out, c)
		}
	}
	return out
}

func (g *group) workers(l Library) []*Connection {
	return g.pick(func(c *Connection) bool { return c.Role == RoleWorker && c.Library == l })
}

// open returns the connections nothing is known about yet.
func (g *group) open(subscribed bool) []*Connection {
	return g.pick(func(c *Connection) bool { return c.Role == "" && c.client.Subscribed() == subscribed })
}

// resolveWorkers settles the workers that were busy at this moment.
func (g *group) resolveWorkers(bullQueues map[string]bool, known memory) {
	bull, bullmq := len(g.workers(LibraryBull)), len(g.workers(LibraryBullMQ))
	for _, c := range g.workers(LibraryEither) {
		lib, seen := known[key{c.Node, c.ID}]
		switch {
		case seen:
			c.set(RoleWorker, lib, Certain, "seen blocking in an earlier sample; busy now")
		case bullQueues[c.Prefix+":"+c.Queue]:
			c.set(RoleWorker, LibraryBull, Likely, "busy now; somebody subscribes to this queue's delayed channel, as Bull does")
		case bull > 0 && bullmq == 0:
			c.set(RoleWorker, LibraryBull, Likely, "busy now; the other workers of "+g.where+" are Bull")
		case bullmq > 0 && bull == 0:
			c.set(RoleWorker, LibraryBullMQ, Likely, "busy now; the other workers of "+g.where+" are BullMQ")
		}
	}
}

// bull gives Bull's subscribers and ordinary clients to their workers. Every process() holds a bclient
// and needs a client and a subscriber; createClient may share the two, never the bclient.
func (g *group) bull() {
	workers := g.workers(LibraryBull)
	k := len(workers)
	if k == 0 {
		return
	}
	subs := g.open(true)
	plainSubs := len(subs) == k
	for i, c := range subs {
		switch {
		case plainSubs:
			c.set(RoleSubscriber, LibraryBull, Arithmetic, fmt.Sprintf("%s has %d Bull workers and %d subscribers: one each, paired by age", g.where, k, k))
			c.in(workers[i])
		case len(subs) < k:
			c.set(RoleSubscriber, LibraryBull, Arithmetic, fmt.Sprintf("%s has %d Bull workers and %d subscribers: shared, %d channels on this one", g.where, k, len(subs), c.client.Sub))
		case i < k:
			c.set(RoleSubscriber, LibraryBull, Likely, fmt.Sprintf("%s has %d Bull workers and %d subscribers, so %d are others", g.where, k, len(subs), len(subs)-k))
		}
	}

	candidates := g.open(false)
	slices.SortStableFunc(candidates, func(a, b *Connection) int { return bullScore(a) - bullScore(b) })
	scripting := 0
	for _, c := range candidates {
		if bullScore(c) == 0 {
			scripting++
		}
	}
	need := k
	if len(subs) > 0 && len(subs) < k && scripting < k {
		need = min(len(subs), max(scripting, 1))
	}
	need = min(need, len(candidates))
	forced := len(g.workers(LibraryBullMQ)) == 0 && (len(candidates) == need || scripting == need)
	conf := Likely
	if forced {
		conf = Arithmetic
	}
	taken := slices.Clone(candidates[:need])
	slices.SortFunc(taken, func(a, b *Connection) int { return cmp.Compare(a.ID, b.ID) })
	for i, c := range taken {
		if need < k {
			c.set(RoleShared, LibraryBull, conf, fmt.Sprintf("%s has %d Bull workers and %d ordinary clients for them: shared", g.where, k, need))
			continue
		}
		c.set(RoleQueueClient, LibraryBull, conf, fmt.Sprintf("%s has %d Bull workers and %d clients for them: one each, paired by age", g.where, k, need))
		c.in(workers[i])
	}
}

// bullScore orders unnamed ordinary connections by how much they look like Bull's client: 0 runs
// scripts, 1 shows nothing against it, 2 does something Bull never does.
func bullScore(c *Connection) int {
	switch {
	case runsScripts(c.client.Command):
		return 0
	case isNeutral(c.client.Command):
		return 1
	default:
		return 2
	}
}

// bullmq gives ordinary connections to BullMQ's workers and queues. A Worker needs one ordinary
// connection besides its blocking one and a Queue needs one; a shared instance serves them all.
func (g *group) bullmq() {
	workers := g.workers(LibraryBullMQ)
	m := len(workers)
	if m == 0 {
		return
	}
	var halves, queues []*Connection
	for _, c := range g.open(false) {
		switch {
		case c.client.Command == "hset" || c.client.Command == "hmset":
			queues = append(queues, c)
		case runsScripts(c.client.Command) || isNeutral(c.client.Command):
			halves = append(halves, c)
		}
	}
	switch total := len(halves) + len(queues); {
	case total == 0:
		return
	case m > 1 && len(halves) > 0 && len(halves) < m && (total < m || len(halves) == 1):
		conf := Likely
		if len(halves) == 1 {
			conf = Arithmetic
		}
		for _, c := range halves {
			c.set(RoleShared, LibraryBullMQ, conf, fmt.Sprintf("%s has %d BullMQ workers and %d ordinary connections for them: shared", g.where, m, len(halves)))
		}
	case m > 1 && total < m:
		for _, c := range queues {
			c.set(RoleShared, LibraryBullMQ, Likely, fmt.Sprintf("%s has %d BullMQ workers and %d ordinary connections: shared", g.where, m, total))
		}
		return
	default:
		g.bullmqPlain(workers, halves, queues)
		return
	}
	g.bullmqQueues(workers, queues, Likely)
}

func (g *group) bullmqPlain(workers, halves, queues []*Connection) {
	m, total := len(workers), len(halves)+len(queues)
	conf := Likely
	if total == m || total == 2*m || len(halves) == m {
		conf = Arithmetic
	}
	if short := m - len(halves); short > 0 {
		halves = append(halves, queues[:short]...)
		queues = queues[short:]
	}
	if len(halves) > m {
		// Scripts first: a Queue that only opened shows INFO or HSET, a Worker has always run scripts.
		slices.SortStableFunc(halves, func(a, b *Connection) int { return bullScore(a) - bullScore(b) })
		queues = append(queues, halves[m:]...)
		halves = halves[:m]
	}
	slices.SortFunc(halves, func(a, b *Connection) int { return cmp.Compare(a.ID, b.ID) })
	for i, c := range halves {
		c.set(RoleWorkerClient, LibraryBullMQ, conf, fmt.Sprintf("%s has %d BullMQ workers and %d ordinary connections: each Worker needs one, paired by age", g.where, m, total))
		c.in(workers[i])
	}
	slices.SortFunc(queues, func(a, b *Connection) int { return cmp.Compare(a.ID, b.ID) })
	g.bullmqQueues(workers, queues, conf)
}

func (g *group) bullmqQueues(workers, queues []*Connection, conf Confidence) {
	for i, c := range queues {
		if len(queues) == len(workers) {
			c.set(RoleQueueClient, LibraryBullMQ, conf, fmt.Sprintf("%s has %d BullMQ workers and as many Queue connections: one each, paired by age", g.where, len(workers)))
			c.in(workers[i])
			continue
		}
		c.set(RoleQueueClient, LibraryBullMQ, Likely, "an ordinary connection beyond what the workers of "+g.where+" need: a Queue or FlowProducer")
	}
}
