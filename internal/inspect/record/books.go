package record

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	other        = "(other)" // the row of what does not fit
	testCommands = 64        // kept for each test
	maxTexts     = 64        // kinds of errors
)

// books are what was counted. Every method takes the lock.
type books struct {
	opts  Options
	began time.Time

	mu        sync.Mutex
	total     Count
	clients   map[*client]struct{} // those connected
	processes map[int]*process
	everyone  *run // test of all processes, nil outside of one
	outside   *run // what belongs to no test
	opened    int64
	peak      int
	refused   int64
	requests  int64
	inexact   bool   // a script was not charged what it ran
	served    *int64 // commands that all scripts ran together, nil where nobody said

	sources  table[string, Source]
	tests    table[string, testRow]
	named    table[clientKey, Client]
	commands table[string, Command]
	prefixes table[string, Prefix]
	scripts  table[string, Script]
	failures table[string, Failure]
}

type clientKey struct{ name, library, source string }

// A testRow is a test with the order in which it began.
type testRow struct {
	Test
	sources  map[string]bool
	commands map[string]int64
}

// A run is one run of a test.
type run struct {
	test *testRow
	work int64 // billed
}

// A table is rows by key, no more than max; beyond that one row holds the rest.
type table[K comparable, V any] struct {
	max   int
	rows  map[K]*V
	order []K
	fresh func(k K, rest bool) *V
	rest  *V
}

func newTable[K comparable, V any](most int, fresh func(k K, rest bool) *V) table[K, V] {
	return table[K, V]{max: most, rows: map[K]*V{}, fresh: fresh}
}

// row is the one of k, made if need be.
func (t *table[K, V]) row(k K) *V {
	if v, ok := t.rows[k]; ok {
		return v
	}
	if len(t.rows) >= t.max {
		if t.rest == nil {
			t.rest = t.fresh(k, true)
		}
		return t.rest
	}
	v := t.fresh(k, false)
	t.rows[k] = v
	t.order = append(t.order, k)
	return v
}

// all are the rows in the order in which they were made, the one of the rest last.
func (t *table[K, V]) all() []*V {
	out := make([]*V, 0, len(t.order)+1)
	for _, k := range t.order {
		out = append(out, t.rows[k])
	}
	if t.rest != nil {
		out = append(out, t.rest)
	}
	return out
}

func newBooks(o Options) *books {
	name := func(k string, rest bool) string {
		if rest {
			return other
		}
		return k
	}
	b := &books{opts: o, began: now(), clients: map[*client]struct{}{}, processes: map[int]*process{}}
	b.sources = newTable(o.MaxRows, func(k string, rest bool) *Source { return &Source{Name: name(k, rest)} })
	b.tests = newTable(o.MaxRows, func(k string, rest bool) *testRow {
		return &testRow{Test: Test{Name: name(k, rest)}, sources: map[string]bool{}, commands: map[string]int64{}}
	})
	b.named = newTable(o.MaxRows, func(k clientKey, rest bool) *Client {
		if rest {
			return &Client{Name: other}
		}
		return &Client{Name: k.name, Library: k.library, Source: k.source}
	})
	b.commands = newTable(o.MaxRows, func(k string, rest bool) *Command { return &Command{Command: name(k, rest)} })
	b.prefixes = newTable(o.MaxRows, func(k string, rest bool) *Prefix { return &Prefix{Prefix: name(k, rest)} })
	b.scripts = newTable(o.MaxRows, func(k string, rest bool) *Script { return &Script{SHA1: name(k, rest)} })
	b.failures = newTable(maxTexts, func(k string, rest bool) *Failure { return &Failure{Code: name(k, rest)} })
	b.outside = &run{test: &testRow{sources: map[string]bool{}, commands: map[string]int64{}}}
	return b
}

// An entry is one command from when it was read to when it was answered.
type entry struct {
	local []byte // the answer, where it is the recorder's own; nothing is booked then

	name    string
	prefix  string
	script  string // SHA-1 or name of the function
	numKeys int
	first   string // last part of a script's first key
	second  string // and of its second
	block   bool
	source  string
	how     string
	run     *run
	out     int64
	quiet   bool          // it is the connection's own and nobody's
	more    int           // replies still to come after the next one
	locked  chan struct{} // the lock of scripts, to give back with the first byte of the reply
	before  int64         // commands in scripts when it was sent
	inside  int64
	queued  []*entry // of a transaction, on its EXEC
}

// begin attributes a command that is about to be sent.
func (b *books) begin(c *client, e *entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !c.counted && !c.http {
		c.counted = true
		b.opened++
		b.peaks()
	}
	e.source, e.how = c.sourceName()
	switch {
	case c.test != nil:
		e.run = c.test
	case c.proc.test != nil:
		e.run = c.proc.test
	case c.proc.env != nil:
		e.run = c.proc.env
	case b.everyone != nil:
		e.run = b.everyone
	default:
		e.run = b.outside
	}
}

// end books a command: r is its reply, nil where none came.
func (b *books) end(c *client, e *entry, r *reply) {
	if e.quiet {
		return
	}
	n := b.count(e, r)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total.add(n)
	c.count.add(n)
	s := b.sources.row(e.source)
	s.Named = e.how
	s.add(n)
	t := e.run.test
	t.add(n)
	e.run.work += n.BilledWork
	t.MaxPerRun = max(t.MaxPerRun, e.run.work)
	if len(t.sources) < 8 {
		t.sources[e.source] = true
	}
	if _, known := t.commands[e.name]; known || len(t.commands) < testCommands {
		t.commands[e.name] += n.Sent
	} else {
		t.commands[other] += n.Sent
	}
	b.commands.row(e.name).add(n)
	b.prefixes.row(e.prefix).add(n)
	if e.script != "" {
		b.scripts.row(e.script).add(n)
	}
	if r != nil && r.err != "" {
		b.fail(e.name, r.err)
	}
}

func (b *books) fail(command, text string) {
	code, _, _ := strings.Cut(text, " ")
	f := b.failures.row(code + " " + command)
	if f.Count == 0 && f.Code != other {
		f.Code, f.Text, f.Command = code, cut(strings.ToValidUTF8(text, "\uFFFD"), maxNameBytes), command
	}
	f.Count++
}

// count is what one command comes to.
func (b *books) count(e *entry, r *reply) Count {
	n := Count{Sent: 1, InScript: e.inside, BytesOut: e.out}
	p := b.opts.Provider
	verb, _, _ := strings.Cut(e.name, "|")
	if !slices.Contains(p.Free, verb) {
		n.Billed = 1
	}
	if p.BillsInScript {
		n.Billed += e.inside
	}
	if r != nil {
		n.BytesIn = r.size
		n.Errors = r.inner
		if r.err != "" {
			n.Errors++
		}
	}
	switch kindOf(e, r) {
	case idle:
		n.Idle = 1 + e.inside
	case setup:
		n.Setup = 1 + e.inside
	case work:
		n.Work, n.BilledWork = 1+e.inside, n.Billed
	}
	return n
}

// title remembers what a script calls itself.
func (b *books) title(sha, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.scripts.row(sha); s.Title == "" && s.SHA1 != other {
		s.Title = firstComment(text)
	}
}

// mark applies what an application said about itself.
func (b *books) mark(c *client, m Mark) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.marked = true
	if m.What == "source" {
		if m.Scope == "conn" {
			c.source, c.how = m.Name, "mark"
		} else {
			c.proc.source, c.proc.how = m.Name, "mark"
		}
		b.peaks()
		return
	}
	var r *run
	if m.Name != "" {
		r = b.run(m.Name)
		r.test.Runs++
	}
	switch m.Scope {
	case "conn":
		c.test = r
	case "all":
		b.everyone = r
	default:
		c.proc.test = r
	}
}

// run begins a run of the test called name. The lock is held.
func (b *books) run(name string) *run { return &run{test: b.tests.row(name)} }

// connect takes note of a new connection. It counts from its first command that is no mark: one that
// carries marks alone is no connection of the application.
func (b *books) connect(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clients[c] = struct{}{}
}

// counts is whether a connection is one of the application: not one of HTTP, nor one of marks alone.
func (c *client) counts() bool { return !c.http && (c.counted || !c.marked) }

// peaks looks at who is connected now.
func (b *books) peaks() {
	all := 0
	by := map[string]int{}
	for c := range b.clients {
		c.proc.open = 0
	}
	for c := range b.clients {
		if !c.counts() {
			continue
		}
		all++
		name, _ := c.sourceName()
		by[name]++
		c.proc.open++
		c.proc.peak = max(c.proc.peak, c.proc.open)
	}
	b.peak = max(b.peak, all)
	for name, n := range by {
		s := b.sources.row(name)
		s.PeakConnections = max(s.PeakConnections, n)
	}
}

// disconnect books what a connection was called at its end.
func (b *books) disconnect(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.clients, c)
	if !c.counted && c.counts() {
		b.opened++ // it sent nothing at all
	}
	c.book(&b.named)
}

func (b *books) refuse() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused++
}

// book adds the connection to the row of its name.
func (c *client) book(t *table[clientKey, Client]) {
	source, _ := c.sourceName()
	if !c.counts() && c.count == (Count{}) {
		return
	}
	library := c.library
	if c.http {
		library = "http"
	}
	row := t.row(clientKey{c.name, library, source})
	if c.counts() {
		row.Connections++
	}
	row.add(c.count)
}

// report copies the books. Connections that are open are told as what they are called now.
func (b *books) report() *Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &Report{
		Began: b.began, Provider: b.opts.Provider, Total: b.total, Command: []string{},
		Connections: Connections{Opened: b.opened, Peak: b.peak, Refused: b.refused, HTTPRequests: b.requests},
		Sources:     []Source{}, Tests: []Test{}, Missing: []string{},
	}
	r.Duration = now().Sub(b.began)
	for pid, p := range b.processes {
		if pid > 0 {
			r.Connections.Processes++
			r.Connections.PeakPerProcess = max(r.Connections.PeakPerProcess, p.peak)
		}
	}
	named := newTable(b.named.max, b.named.fresh)
	for _, row := range b.named.all() {
		*named.row(clientKey{row.Name, row.Library, row.Source}) = *row
	}
	for c := range b.clients {
		if c.counts() {
			r.Connections.Left++
			if !c.counted {
				r.Connections.Opened++
			}
		}
		c.book(&named)
	}
	for _, s := range b.sources.all() {
		if s.Sent > 0 { // else it is what a connection was called before it named itself
			r.Sources = append(r.Sources, *s)
		}
	}
	slices.SortStableFunc(r.Sources, func(x, y Source) int {
		return cmp.Or(cmp.Compare(y.BilledWork, x.BilledWork), cmp.Compare(y.Sent, x.Sent), cmp.Compare(x.Name, y.Name))
	})
	for _, t := range append(b.tests.all(), b.outside.test) {
		if t != b.outside.test || t.Sent > 0 {
			r.Tests = append(r.Tests, t.test())
		}
	}
	top := b.opts.Top
	r.Clients = most(named.all(), top, func(c *Client) *Count { return &c.Count }, Client{Name: other})
	r.Commands = most(b.commands.all(), top, func(c *Command) *Count { return &c.Count }, Command{Command: other})
	r.Prefixes = most(b.prefixes.all(), top, func(p *Prefix) *Count { return &p.Count }, Prefix{Prefix: other})
	scripts := slices.DeleteFunc(b.scripts.all(), func(s *Script) bool { return s.Sent == 0 })
	r.Scripts = most(scripts, top, func(s *Script) *Count { return &s.Count }, Script{SHA1: other})
	r.Errors = []Failure{}
	for _, f := range b.failures.all() {
		r.Errors = append(r.Errors, *f)
	}
	slices.SortStableFunc(r.Errors, func(x, y Failure) int { return cmp.Compare(y.Count, x.Count) })
	return r
}

// test is the row as it is reported.
func (t *testRow) test() Test {
	out := t.Test
	out.Source = strings.Join(slices.Sorted(maps.Keys(t.sources)), ", ")
	out.Commands = []Calls{}
	for _, name := range slices.Sorted(maps.Keys(t.commands)) {
		out.Commands = append(out.Commands, Calls{name, t.commands[name]})
	}
	slices.SortStableFunc(out.Commands, func(x, y Calls) int { return cmp.Compare(y.Sent, x.Sent) })
	if len(out.Commands) > 20 {
		rest := Calls{Command: other}
		for _, c := range out.Commands[19:] {
			rest.Sent += c.Sent
		}
		out.Commands = append(out.Commands[:19], rest)
	}
	return out
}

// most are the rows with the most commands, at most top, and the sum of all others in rest.
func most[V any](rows []*V, top int, count func(*V) *Count, rest V) []V {
	out := make([]V, 0, min(len(rows), top+1))
	slices.SortStableFunc(rows, func(x, y *V) int {
		a, b := count(x), count(y)
		return cmp.Or(cmp.Compare(b.Sent+b.InScript, a.Sent+a.InScript), cmp.Compare(b.Sent, a.Sent))
	})
	for i, row := range rows {
		if i < top {
			out = append(out, *row)
			continue
		}
		count(&rest).add(*count(row))
	}
	if len(rows) > top {
		out = append(out, rest)
	}
	return out
}

// inside charges a script that was booked already what it ran.
func (b *books) inside(c *client, e *entry, n int64) {
	extra := Count{InScript: n, Work: n}
	if b.opts.Provider.BillsInScript {
		extra.Billed, extra.BilledWork = n, n
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total.add(extra)
	c.count.add(extra)
	b.sources.row(e.source).add(extra)
	e.run.test.add(extra)
	e.run.work += extra.BilledWork
	e.run.test.MaxPerRun = max(e.run.test.MaxPerRun, e.run.work)
	b.commands.row(e.name).add(extra)
	b.prefixes.row(e.prefix).add(extra)
	b.scripts.row(e.script).add(extra)
}
