package governor

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"
)

// How replicas tell each other: by what the server pushes, or by what they publish.
type bellMode int

const (
	silent    bellMode = iota // nobody follows, or nobody can
	publishes                 // PUBLISH
	tracks                    // CLIENT TRACKING; only what has no key is published
)

// bellVersion begins every message. A newer one is not understood, and means that anything may have
// happened.
const bellVersion = "1"

// What a line of a message says.
const (
	workLine      = "p" // jobs became pending: count, queue
	scheduledLine = "s" // a job was scheduled: Unix time, who looks after it, queue
	retryLine     = "r" // a job is to be tried again: the same
	leaseLine     = "l" // jobs of the queue are being worked on: queue
	helloLine     = "h" // a replica has come
	byeLine       = "b" // the sweeper goes
)

// attended tells that the sender moves the job itself when it is due, unless it dies.
const (
	attended   = "a"
	unattended = "u"
)

// ownWork is how long an announcement of work waits when a worker here is idle, who takes it before.
const ownWork = 10 * time.Millisecond

// dueGrace is how long after its time another replica moves a job that its owner has not moved.
const dueGrace = 5 * time.Second

// bell is the state of telling. The Governor's mutex guards it.
type bell struct {
	mode     bellMode
	peers    int64         // other replicas that follow, as of the last PUBLISH
	takers   int           // dequeues that wait here
	forwards time.Time     // when asynq last looked for delayed jobs here
	flush    chan struct{} // of capacity 1: there is something to announce
	greet    bool          // say hello
}

func (b *bell) init() { b.flush = make(chan struct{}, 1) }

// An announcement is what is to be said of one queue. The Governor's mutex guards it.
type announcement struct {
	last  time.Time // when something was said
	at    time.Time // when to speak; zero: there is nothing to say
	jobs  int64
	due   [2]int64 // scheduled, retry; Unix time, 0 is none
	lease bool

	leaseLast time.Time
}

// channel is where replicas talk. Channels know no database, so the scope is in the name.
func (g *Governor) channel() string { return "redisopt:" + g.opts.Scope + ":queue:~bell" }

// talks is whether there is anybody to talk to. The mutex is held.
func (g *Governor) talks() bool { return g.bell.mode == publishes && g.bell.peers > 0 }

// announceWork says that n jobs became pending, unless they are taken here first. The mutex is held.
func (g *Governor) announceWork(q *queue, n int64) {
	if !g.talks() {
		return
	}
	q.announce.jobs += n
	wait := time.Duration(0)
	if g.bell.takers > 0 {
		wait = ownWork
	}
	g.speak(q, wait)
}

// announceDue says when a delayed job is due, so that it is not late when this process dies.
func (g *Governor) announceDue(q *queue, retry bool, unix int64) {
	if !g.talks() {
		return
	}
	i := 0
	if retry {
		i = 1
	}
	if d := q.announce.due[i]; d == 0 || unix < d {
		q.announce.due[i] = unix
	}
	g.speak(q, 0)
}

// announceLease says that jobs of q are being worked on, so that others look after their leases.
func (g *Governor) announceLease(q *queue, now time.Time) {
	if !g.talks() || now.Sub(q.announce.leaseLast) < g.opts.Announce {
		return
	}
	q.announce.leaseLast, q.announce.lease = now, true
	g.speak(q, 0)
}

// speak asks for an announcement after wait, and not before the window of the last one is over.
func (g *Governor) speak(q *queue, wait time.Duration) {
	at := time.Now().Add(wait)
	if next := q.announce.last.Add(g.opts.Window); at.Before(next) {
		at = next
	}
	if q.announce.at.IsZero() || at.Before(q.announce.at) {
		q.announce.at = at
	}
	g.pull()
}

func (g *Governor) pull() {
	select {
	case g.bell.flush <- struct{}{}:
	default:
	}
}

// ring publishes announcements when their time has come, until ctx ends.
func (g *Governor) ring(ctx context.Context) {
	failures := 0
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		g.mu.Lock()
		message, said, next := g.compose(time.Now())
		g.mu.Unlock()
		if message != "" {
			err := g.publish(ctx, message)
			if err == nil {
				failures = 0
				continue
			}
			failures++
			g.mu.Lock()
			said(time.Now().Add(backoff(failures)))
			g.mu.Unlock()
			continue
		}
		timer.Reset(time.Hour)
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-g.bell.flush:
		}
	}
}

// publish says something to all replicas, and hears how many there are. It costs one PUBLISH.
func (g *Governor) publish(ctx context.Context, message string) error {
	listeners, err := g.opts.Client.Publish(ctx, g.channel(), bellVersion+" "+g.id+"\n"+message).Result()
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.Published++
	if !g.opts.ClientOnly {
		listeners-- // this one
	}
	g.bell.peers = max(0, listeners)
	return nil
}

// compose is what is to be said now, and what undoes that when it cannot be, and when there is more. The
// mutex is held.
func (g *Governor) compose(now time.Time) (message string, undo func(at time.Time), next time.Time) {
	var b strings.Builder
	type spoken struct {
		q   *queue
		was announcement
	}
	var all []spoken
	greet := g.bell.greet
	if greet {
		fmt.Fprintln(&b, helloLine)
		g.bell.greet = false
	}
	for _, name := range g.names {
		q := g.queues[name]
		a := &q.announce
		if a.at.IsZero() {
			continue
		}
		if a.at.After(now) {
			if next.IsZero() || a.at.Before(next) {
				next = a.at
			}
			continue
		}
		was := *a
		if g.write(&b, q) {
			a.last = now
			all = append(all, spoken{q, was})
		}
		*a = announcement{last: a.last, leaseLast: a.leaseLast}
	}
	return b.String(), func(at time.Time) {
		g.bell.greet = g.bell.greet || greet
		for _, s := range all {
			a := &s.q.announce
			a.jobs += s.was.jobs
			a.lease = a.lease || s.was.lease
			for i, d := range s.was.due {
				if d != 0 && (a.due[i] == 0 || d < a.due[i]) {
					a.due[i] = d
				}
			}
			a.at = at
		}
	}, next
}

// write adds the lines of one queue; it returns whether there were any. The mutex is held.
func (g *Governor) write(b *strings.Builder, q *queue) bool {
	before, a := b.Len(), &q.announce
	jobs := a.jobs
	if !q.unsure {
		jobs = min(jobs, q.credits) // the others were taken here
	}
	if jobs > 0 {
		fmt.Fprintln(b, workLine, jobs, q.name)
	}
	who := unattended
	if !g.opts.ClientOnly && time.Since(g.bell.forwards) < 10*time.Second {
		who = attended
	}
	for i, line := range []string{scheduledLine, retryLine} {
		if a.due[i] != 0 {
			fmt.Fprintln(b, line, a.due[i], who, q.name)
		}
	}
	if a.lease {
		fmt.Fprintln(b, leaseLine, q.name)
	}
	return b.Len() > before
}

// hear takes a message of another replica.
func (g *Governor) hear(payload []byte) {
	head, body, _ := bytes.Cut(payload, []byte("\n"))
	version, sender, _ := strings.Cut(string(head), " ")
	if sender == g.id && version == bellVersion {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.Heard++
	if version != bellVersion {
		for _, q := range g.queues {
			q.suspect()
		}
		g.signal()
		return
	}
	for line := range strings.Lines(string(body)) {
		g.hearLine(strings.TrimSuffix(line, "\n"))
	}
	g.signal()
}

// hearLine takes one line. What it does not know is of a later version that means no harm to this one.
func (g *Governor) hearLine(line string) {
	kind, rest, _ := strings.Cut(line, " ")
	switch kind {
	case helloLine:
		g.bell.peers = max(1, g.bell.peers)
		g.role.claim = time.Now()
	case byeLine:
		g.role.claim = time.Now().Add(g.role.patience)
	case leaseLine:
		if q := g.queues[rest]; q != nil {
			q.foreign.suspect(time.Now().Add(g.opts.Announce + time.Second))
		}
	case workLine:
		count, name, _ := strings.Cut(rest, " ")
		n, err := number(count)
		q := g.queues[name]
		switch {
		case q == nil:
		case err != nil || n < 1:
			q.suspect()
		default:
			q.paused = false
			q.credit(n)
		}
	case scheduledLine, retryLine:
		at, rest, _ := strings.Cut(rest, " ")
		who, name, _ := strings.Cut(rest, " ")
		unix, err := number(at)
		q := g.queues[name]
		if q == nil || err != nil {
			return
		}
		d := &q.scheduled
		if kind == retryLine {
			d = &q.retry
		}
		if who == unattended && g.role.sweeper {
			d.partial = true
			d.note(unix)
			return
		}
		d.noteForeign(unix, dueGrace+g.role.patience)
	}
}
