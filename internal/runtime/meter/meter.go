// Package meter counts what a program spends on a Redis: commands by component, command and outcome,
// their latency, and their price. It only counts what it is told; the upstream tells it what left the
// socket.
//
// Counting takes no lock: a series is looked up once per connection and command name, and from then
// on every event is a handful of atomic additions.
package meter

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Component is who spends.
type Component string

// The components. Untagged is what left the socket without anybody claiming it; it is reported as
// such rather than charged to a guess.
const (
	Cache     Component = "cache"
	RateLimit Component = "ratelimit"
	SMS       Component = "sms"
	Queue     Component = "queue"
	Gateway   Component = "gateway"
	Door      Component = "door"
	Audit     Component = "audit"
	Bench     Component = "bench"
	Migrate   Component = "migrate"
	Control   Component = "control"
	Untagged  Component = "untagged"
)

// Components are all components in the order in which they are listed to people.
func Components() []Component {
	return []Component{Cache, RateLimit, SMS, Queue, Gateway, Door, Audit, Bench, Migrate, Control, Untagged}
}

// An Outcome is how a command ended: one of the constants here, or the name of an error class.
type Outcome string

// The outcomes that are not error classes. Timeout: the client stopped waiting, and the server may
// have run the command. Lost: the connection ended before the reply, and the server may have run the
// command.
const (
	OK      Outcome = "ok"
	Timeout Outcome = "timeout"
	Lost    Outcome = "lost"
)

// A Meter holds the counts of one process. It is safe for concurrent use; the zero value is ready.
type Meter struct {
	series sync.Map // of seriesKey to *Series; read-mostly, so looking one up takes no lock
}

type seriesKey struct {
	component Component
	command   string
}

// New returns an empty Meter.
func New() *Meter { return &Meter{} }

// Series returns the counters of one component and command, and makes them on first use. The command
// is lower case, a subcommand after a bar, as INFO commandstats spells it: "get", "client|list".
// Callers on a hot path keep the result.
func (m *Meter) Series(c Component, command string) *Series {
	key := seriesKey{c, command}
	if s, ok := m.series.Load(key); ok {
		return s.(*Series)
	}
	s, _ := m.series.LoadOrStore(key, &Series{})
	return s.(*Series)
}

// InScript adds n commands that scripts of component c ran on the server, for callers that know the
// number. Command is the one that started them: "evalsha", "fcall".
func (m *Meter) InScript(c Component, command string, n int64) {
	m.Series(c, command).inScript.Add(n)
}

// A Series counts one command of one component. It is safe for concurrent use and takes no lock.
type Series struct {
	sent     atomic.Int64
	inScript atomic.Int64
	bytesOut atomic.Int64
	bytesIn  atomic.Int64
	ok       atomic.Int64
	other    sync.Map // of Outcome to *atomic.Int64; only what went wrong is in it
	latency  latency
}

// Sent counts one command of size bytes whose last byte was handed to the socket.
func (s *Series) Sent(size int64) {
	s.sent.Add(1)
	s.bytesOut.Add(size)
}

// Ended counts how one command that was Sent ended. After is the time from the last byte sent to the
// last byte of the reply and size the length of the reply in bytes. The latency is recorded for
// replies only, errors included, and not for Timeout and Lost, where there is no reply to measure.
func (s *Series) Ended(o Outcome, after time.Duration, size int64) {
	s.bytesIn.Add(size)
	switch o {
	case OK:
		s.ok.Add(1)
	case Timeout, Lost:
		s.count(o)
		return
	default:
		s.count(o)
	}
	s.latency.record(after)
}

func (s *Series) count(o Outcome) {
	n, ok := s.other.Load(o)
	if !ok {
		n, _ = s.other.LoadOrStore(o, new(atomic.Int64))
	}
	n.(*atomic.Int64).Add(1)
}
