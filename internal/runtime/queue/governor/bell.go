package governor

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"slices"
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
	workLine      = "p" // jobs became pending: queue, ids if there are few
	scheduledLine = "s" // a job was scheduled: queue, Unix time, who looks after it
	retryLine     = "r" // a job is to be tried again: the same
	leaseLine     = "l" // jobs of the queue are being worked on: queue
	helloLine     = "h" // a replica has come: what it hears
	byeLine       = "b" // the sweeper goes
)

// attended tells that the sender moves the job itself when it is due, unless it dies.
const (
	attended   = "a"
	unattended = "u"
)

// What a hello says of who says it: whether the server's pushes are enough to reach it.
const (
	hearsPushes   = "t"
	hearsMessages = "p"
)

// ownWork is how long an announcement of work waits when a worker here is idle, who takes it before.
const ownWork = 10 * time.Millisecond

// dueGrace is how long after its time another replica moves a job that its owner has not moved.
const dueGrace = 5 * time.Second

// bell is the state of telling. The Governor's mutex guards it.
type bell struct {
	mode     bellMode
	peers    int64         // other replicas that follow, as of the last PUBLISH
	hellos   uint64        // heard so far
	takes    time.Time     // when a worker here was last idle
	forwards time.Time     // when asynq last looked for delayed jobs here
	flush    chan struct{} // of capacity 1: there is something to announce
	greet    bool          // say hello
	mixed    bool          // some other replica does not hear the server's pushes
	reply    bool          // say that this one does not
}

func (b *bell) init() { b.flush = make(chan struct{}, 1) }

// An announcement is what is to be said of one queue. The Governor's mutex guards it.
type announcement struct {
	last  time.Time // when something was said
	at    time.Time // when to speak; zero: there is nothing to say
	ids   []string  // of jobs that became pending
	more  bool      // and others
	due   [2]int64  // scheduled, retry; Unix time, 0 is none
	lease bool

	leaseLast time.Time
}

// channel is where replicas talk. Channels know no database, so the scope is in the name.
func (g *Governor) channel() string { return "redisopt:" + g.opts.Scope + ":queue:~bell" }

// talks is whether there is anybody to talk to. The mutex is held.
func (g *Governor) talks() bool {
	return g.opts.ClientOnly && g.bell.mode == publishes || g.bell.peers > 0 && (g.bell.mode == publishes || g.bell.mode == tracks && g.bell.mixed)
}

// announcedIDs is how many jobs are named in an announcement; with more, it says just that there are some.
const announcedIDs = 16

// announceWork says that jobs became pending, unless they are taken here first. Without ids it says that
// there may be some. The mutex is held.
func (g *Governor) announceWork(q *queue, ids ...string) {
	if !g.talks() {
		return
	}
	a := &q.announce
	a.ids = append(a.ids, ids...)
	if len(ids) == 0 || len(a.ids) > announcedIDs {
		a.ids, a.more = nil, true
	}
	g.speak(q, g.patience())
}

// patience is how long to wait for the workers here to take a job before others are told of it.
func (g *Governor) patience() time.Duration {
	if time.Since(g.bell.takes) > serving {
		return 0
	}
	return ownWork
}

// serving is how long after a worker was last idle there still is one, even if a busy one.
const serving = time.Minute

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
	g.mu.Lock()
	hellos := g.bell.hellos
	g.mu.Unlock()
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
	if g.bell.hellos != hellos {
		listeners = max(1, listeners) // somebody came while the count was on its way
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
	if g.bell.reply {
		g.bell.reply = false
		fmt.Fprintln(&b, helloLine, hearsMessages)
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
		if g.write(&b, q, now) {
			a.last = now
			all = append(all, spoken{q, was})
		}
		*a = announcement{last: a.last, leaseLast: a.leaseLast}
		if (was.more || len(was.ids) > 0) && len(q.waiting) > 0 && !q.backlog(now, g.patience()) {
			// They are new, and are taken here or told of in a moment.
			a.ids, a.more = was.ids, was.more
			a.at = now.Add(g.patience())
			if next.IsZero() || a.at.Before(next) {
				next = a.at
			}
		}
	}
	return b.String(), func(at time.Time) {
		for _, s := range all {
			a := &s.q.announce
			a.ids, a.more = append(a.ids, s.was.ids...), a.more || s.was.more
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
func (g *Governor) write(b *strings.Builder, q *queue, now time.Time) bool {
	before, a := b.Len(), &q.announce
	name := url.QueryEscape(q.name)
	if g.opts.ClientOnly || q.unsure || q.backlog(now, g.patience()) {
		writeWork(b, q, name, g.opts.ClientOnly || q.unsure)
	}
	who := unattended
	if !g.opts.ClientOnly && time.Since(g.bell.forwards) < 10*time.Second {
		who = attended
	}
	for i, line := range []string{scheduledLine, retryLine} {
		if a.due[i] != 0 {
			fmt.Fprintln(b, line, name, a.due[i], who)
		}
	}
	if a.lease {
		fmt.Fprintln(b, leaseLine, name)
	}
	return b.Len() > before
}

// writeWork says which jobs are pending: all that were told here, or those that were not taken since.
func writeWork(b *strings.Builder, q *queue, name string, all bool) {
	a := &q.announce
	ids := slices.DeleteFunc(slices.Clone(a.ids), func(id string) bool {
		_, waits := q.waiting[id]
		return !waits && !all
	})
	switch {
	case a.more:
		fmt.Fprintln(b, workLine, name)
	case len(ids) > 0:
		fmt.Fprint(b, workLine, " ", name)
		for _, id := range ids {
			fmt.Fprint(b, " ", url.QueryEscape(id))
		}
		fmt.Fprintln(b)
	}
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
	g.prod()
}

// hearLine takes one line. What it does not know is of a later version that means no harm to this one.
func (g *Governor) hearLine(line string) {
	words := strings.Split(line, " ")
	switch words[0] {
	case helloLine:
		g.bell.peers = max(1, g.bell.peers)
		g.bell.hellos++
		g.role.claim = time.Now()
		switch {
		case words[len(words)-1] == hearsPushes:
			g.bell.reply = g.bell.reply || g.bell.mode == publishes
			g.pull()
		default:
			g.bell.mixed = true
		}
		return
	case byeLine:
		g.role.claim = time.Now().Add(g.role.patience / 20)
		return
	}
	for i, w := range words {
		words[i], _ = url.QueryUnescape(w)
	}
	if len(words) < 2 {
		return
	}
	q := g.queues[words[1]]
	if q == nil {
		return
	}
	switch words[0] {
	case leaseLine:
		q.foreign.suspect(time.Now().Add(g.opts.Announce + time.Second))
	case workLine:
		if len(words) == 2 {
			q.suspect()
			return
		}
		q.paused = false
		q.arrived(time.Now(), time.Time{}, words[2:]...)
	case scheduledLine, retryLine:
		g.hearDue(q, words)
	}
}

// hearDue takes when a delayed job of another process is due.
func (g *Governor) hearDue(q *queue, words []string) {
	if len(words) < 4 {
		return
	}
	unix, err := number(words[2])
	if err != nil {
		return
	}
	d := &q.scheduled
	if words[0] == retryLine {
		d = &q.retry
	}
	if words[3] == unattended && g.role.sweeper {
		d.partial = true
		d.note(unix)
		return
	}
	d.noteForeign(unix, dueGrace+g.role.patience)
}
