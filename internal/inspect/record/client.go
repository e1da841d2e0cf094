package record

import (
	"bufio"
	"encoding/hex"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A client is one connection. One goroutine reads its commands, another the replies.
type client struct {
	rec *Recorder
	nc  net.Conn // to the client
	up  net.Conn // to the Redis
	in  *bufio.Reader
	out *bufio.Writer // to the Redis; owned by requests

	answers sync.Mutex    // held while something is written to the client
	back    *bufio.Writer // to the client

	queue   sync.Mutex
	waiting []*entry
	blind   bool // replies no longer belong to commands: MONITOR, CLIENT REPLY

	// Owned by requests.
	txn []*entry // commands of a transaction, for EXEC

	http bool // it carries HTTP requests

	// Guarded by the lock of the books.
	proc       *process
	source     string
	how        string
	test       *run
	name       string
	library    string
	subscribed bool
	counted    bool // it has sent a command
	marked     bool // it has sent a mark
	count      Count
}

func newClient(r *Recorder, nc, up net.Conn) *client {
	return &client{
		rec: r, nc: nc, up: up,
		in: bufio.NewReaderSize(nc, 16<<10), out: bufio.NewWriterSize(up, 16<<10), back: bufio.NewWriterSize(nc, 16<<10),
	}
}

// end closes both sides.
func (c *client) end() {
	_ = c.nc.Close()
	_ = c.up.Close()
}

// sourceName is who sends, and how that is known. The lock of the books is held.
func (c *client) sourceName() (name, how string) {
	switch {
	case c.source != "":
		return c.source, c.how
	case c.proc.source != "":
		return c.proc.source, c.proc.how
	case c.proc.command != "":
		return c.proc.command, "process"
	}
	return "unknown", "process"
}

// requests carries commands until the client hangs up.
func (c *client) requests() {
	defer c.hangUp()
	for {
		if c.in.Buffered() == 0 && c.out.Flush() != nil {
			return
		}
		s := &sink{out: c.out}
		req, err := readRequest(c.in, s, func(r *request) bool { return c.hold(s, r) })
		if err != nil {
			return
		}
		if req == nil {
			continue
		}
		if c.take(req, s) != nil {
			return
		}
	}
}

// hangUp tells the Redis that no more comes, and lets what is on the way be answered.
func (c *client) hangUp() {
	_ = c.out.Flush()
	if half, ok := c.up.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil && c.pending() {
		_ = c.up.SetReadDeadline(time.Now().Add(time.Second))
		return
	}
	_ = c.up.Close()
}

func (c *client) pending() bool {
	c.queue.Lock()
	defer c.queue.Unlock()
	return len(c.waiting) > 0
}

// hold is whether a command must be read whole before it is passed on, or not be passed on at all.
func (c *client) hold(s *sink, r *request) bool {
	switch word(r.args[0]) {
	case "auth", "hello", "echo", "client":
		return true
	}
	if limit := c.rec.opts.MaxCommands; limit > 0 && c.rec.passed.Load() >= limit {
		s.drop = true
		return true
	}
	return false
}

// take books a command that was read and passes on what is left of it, or answers it.
func (c *client) take(r *request, s *sink) error {
	name := r.name()
	if answer, ok := c.answer(r, s, name); ok {
		s.drop = true
		return c.reply(answer)
	}
	if err := s.release(); err != nil {
		return err
	}
	e := c.entry(r, name)
	c.rec.books.begin(c, e)
	c.rec.passed.Add(1)
	c.lockScript(e)
	c.queue.Lock()
	c.waiting = append(c.waiting, e)
	c.blind = c.blind || name == "monitor" || name == "client|reply"
	c.queue.Unlock()
	_, err := c.out.WriteString("\r\n")
	return err
}

// answer is what the recorder answers itself: marks, passwords, and what is beyond MaxCommands. It changes
// HELLO so that no password is passed on.
func (c *client) answer(r *request, s *sink, name string) ([]byte, bool) {
	if s.drop {
		c.rec.over.Store(true)
		return []byte("-ERR the recording stops at " + strconv.FormatInt(c.rec.opts.MaxCommands, 10) + " commands\r\n"), true
	}
	if s.held == nil {
		return nil, false
	}
	if m, text, ok := markOf(r, name); ok {
		c.rec.books.mark(c, m)
		return text, true
	}
	switch name {
	case "auth":
		if r.count == 3 {
			c.user(r.text(1))
		}
		return []byte("+OK\r\n"), true
	case "hello":
		c.hello(r, s)
	case "client|setname":
		c.setName(r.text(2))
	case "client|setinfo":
		if strings.EqualFold(r.text(2), "lib-name") {
			c.setLibrary(r.text(3))
		}
	}
	return nil, false
}

// user names the source by the user of the URL: redis://api:x@127.0.0.1:6400.
func (c *client) user(name string) {
	if name == "" || name == "default" {
		return
	}
	c.rec.books.mu.Lock()
	defer c.rec.books.mu.Unlock()
	if c.source == "" {
		c.source, c.how = cut(strings.ToValidUTF8(name, "\uFFFD"), maxNameBytes), "user"
		c.rec.books.peaks()
	}
}

// hello takes user and password out of HELLO, which the connection behind has given already.
func (c *client) hello(r *request, s *sink) {
	kept := r.args[:min(2, len(r.args))]
	for i := 2; i < len(r.args); i++ {
		switch strings.ToLower(r.text(i)) {
		case "auth":
			c.user(r.text(i + 1))
			i += 2
		case "setname":
			c.setName(r.text(i + 1))
			if _, http := parseHTTPName(r.text(i + 1)); !http {
				kept = append(slices.Clone(kept), r.arg(i), r.arg(i+1))
			}
			i++
		default:
			kept = append(slices.Clone(kept), r.arg(i))
		}
	}
	s.held.Reset()
	_, _ = s.held.WriteString("*" + strconv.Itoa(len(kept)))
	for _, arg := range kept {
		_, _ = s.held.WriteString("\r\n$" + strconv.Itoa(len(arg)) + "\r\n")
		_, _ = s.held.Write(arg)
	}
}

func (c *client) setName(name string) {
	c.rec.books.mu.Lock()
	defer c.rec.books.mu.Unlock()
	if label, ok := parseHTTPName(name); ok && c.http {
		c.source, c.how = label.Source, "header"
		if label.Test != "" {
			c.test = c.rec.books.run(label.Test)
		}
		if p, ok := c.rec.books.processes[label.Process]; ok {
			c.proc = p
		}
		return
	}
	c.name = cut(strings.ToValidUTF8(name, "\uFFFD"), maxNameBytes)
}

func (c *client) setLibrary(name string) {
	c.rec.books.mu.Lock()
	defer c.rec.books.mu.Unlock()
	c.library = cut(strings.ToValidUTF8(name, "\uFFFD"), maxNameBytes)
}

// reply sends the recorder's own answer, after those that are still to come.
func (c *client) reply(answer []byte) error {
	c.queue.Lock()
	if len(c.waiting) > 0 && !c.blind {
		c.waiting = append(c.waiting, &entry{local: answer})
		c.queue.Unlock()
		return nil
	}
	c.queue.Unlock()
	c.answers.Lock()
	defer c.answers.Unlock()
	if _, err := c.back.Write(answer); err != nil {
		return err
	}
	return c.back.Flush()
}

// entry is what is kept of a command until it is answered.
func (c *client) entry(r *request, name string) *entry {
	key := r.firstKey(name)
	e := &entry{name: name, prefix: prefixOf(key), out: r.size, block: r.blocks(name)}
	e.quiet = c.http && (name == "hello" || name == "select")
	switch name {
	case "eval", "eval_ro":
		e.script = r.sha
		c.rec.books.title(r.sha, r.text(1))
	case "evalsha", "evalsha_ro":
		e.script = strings.ToLower(cut(strings.ToValidUTF8(r.text(1), "?"), 40))
	case "fcall", "fcall_ro":
		e.script = cut(strings.ToValidUTF8(r.text(1), "?"), 128)
	case "script|load":
		c.rec.books.title(r.sha, r.text(2))
	case "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe":
		e.more = max(r.count-2, 0)
		c.rec.books.mu.Lock()
		c.subscribed = true
		c.rec.books.mu.Unlock()
	}
	if e.script != "" && r.count > 3 {
		e.numKeys, _ = strconv.Atoi(r.text(2))
		e.first = lastPart(r.text(3))
		e.second = lastPart(r.text(4))
	}
	c.follow(e)
	return e
}

// follow keeps the commands of a transaction for its EXEC.
func (c *client) follow(e *entry) {
	switch {
	case e.name == "multi":
		c.txn = []*entry{}
	case e.name == "exec":
		e.queued, c.txn = c.txn, nil
	case e.name == "discard" || e.name == "reset":
		c.txn = nil
	case c.txn != nil:
		e.block = false // it does not wait in a transaction
		if e.script != "" {
			c.txn = append(c.txn, e)
		}
	}
}

func lastPart(key string) string {
	i := strings.LastIndexByte(key, ':')
	return cut(key[i+1:], 32)
}

// lockScript waits until no other script runs, so that what this one runs can be told from it.
func (c *client) lockScript(e *entry) {
	if c.rec.opts.InScript == nil || (e.script == "" || c.txn != nil) && len(e.queued) == 0 {
		return
	}
	if c.out.Flush() != nil {
		return
	}
	t := time.NewTimer(scriptWait)
	defer t.Stop()
	select {
	case c.rec.script <- struct{}{}:
		e.locked = c.rec.script
		e.before = c.rec.opts.InScript()
	case <-t.C:
		c.rec.books.mu.Lock()
		c.rec.books.inexact = true
		c.rec.books.mu.Unlock()
	case <-c.rec.ctx.Done():
	}
}

// unlockScript charges a script what ran since it was sent. It is called with the first byte of the reply,
// when the script has ended.
func (c *client) unlockScript(e *entry) {
	if e.locked == nil {
		return
	}
	e.inside = c.rec.opts.InScript() - e.before
	<-e.locked
	e.locked = nil
}

// replies carries replies until the Redis hangs up.
func (c *client) replies() {
	defer func() { _ = c.nc.Close() }()
	in := bufio.NewReaderSize(c.up, 16<<10)
	for {
		if _, err := in.Peek(1); err != nil {
			return
		}
		if err := c.pass(in); err != nil {
			return
		}
	}
}

// pass carries one reply, and the recorder's own answers that come after it.
func (c *client) pass(in *bufio.Reader) error {
	c.answers.Lock()
	defer c.answers.Unlock()
	if e := c.head(); e != nil {
		c.unlockScript(e)
	}
	r, err := copyReply(in, c.back)
	if err != nil {
		return err
	}
	for _, own := range c.settle(r) {
		if _, err := c.back.Write(own); err != nil {
			return err
		}
	}
	if in.Buffered() == 0 {
		return c.back.Flush()
	}
	return nil
}

func (c *client) head() *entry {
	c.queue.Lock()
	defer c.queue.Unlock()
	if len(c.waiting) == 0 {
		return nil
	}
	return c.waiting[0]
}

// settle books the command that r answers and returns the own answers that are due.
func (c *client) settle(r *reply) [][]byte {
	c.rec.books.mu.Lock()
	subscribed := c.subscribed
	c.rec.books.mu.Unlock()
	c.queue.Lock()
	defer c.queue.Unlock()
	if r.message(subscribed) || len(c.waiting) == 0 {
		return nil
	}
	e := c.waiting[0]
	about := (r.kind == '>' || subscribed && r.kind == '*') && subscription(r.first)
	if about && !subscription(e.name) {
		return nil // one more of UNSUBSCRIBE, which answers for every channel
	}
	if about && e.more > 0 {
		e.more--
		return nil
	}
	c.waiting = c.waiting[1:]
	c.spread(e)
	if e.block && !r.empty() {
		c.rec.books.begin(c, e) // it belongs to whoever brought what it waited for
	}
	c.rec.books.end(c, e, r)
	var own [][]byte
	for len(c.waiting) > 0 && c.waiting[0].local != nil {
		own = append(own, c.waiting[0].local)
		c.waiting = c.waiting[1:]
	}
	return own
}

// spread charges what the scripts of a transaction ran: to the script where there is one, else evenly. The
// scripts themselves were booked when they were queued.
func (c *client) spread(e *entry) {
	if len(e.queued) == 0 || e.inside == 0 {
		return
	}
	n := int64(len(e.queued))
	for i, q := range e.queued {
		share := e.inside / n
		if int64(i) < e.inside%n {
			share++
		}
		c.rec.books.inside(c, q, share)
	}
	e.inside = 0
}

// rest books what was sent and never answered.
func (c *client) rest() {
	c.queue.Lock()
	defer c.queue.Unlock()
	for _, e := range c.waiting {
		if e.local == nil {
			c.unlockScript(e) // whose reply never came
			c.rec.books.end(c, e, nil)
		}
	}
	c.waiting = nil
}

// A Label says for whom an HTTP request is.
type Label struct {
	Source, Test string // what its headers say
	Process      int    // what [Recorder.Process] says of its connection
}

const httpNamePrefix = "redisopt-http."

// HTTPClientName is the client name of a connection that carries requests with this label. It holds only
// letters, digits, dots and hyphens, whatever the label holds.
func HTTPClientName(l Label) string {
	text := func(s string) string { return hex.EncodeToString([]byte(cut(s, maxNameBytes))) }
	return httpNamePrefix + strconv.Itoa(l.Process) + "." + text(l.Source) + "." + text(l.Test)
}

func parseHTTPName(name string) (l Label, ok bool) {
	rest, ok := strings.CutPrefix(name, httpNamePrefix)
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 3 {
		return l, false
	}
	process, err := strconv.Atoi(parts[0])
	source, err1 := hex.DecodeString(parts[1])
	test, err2 := hex.DecodeString(parts[2])
	return Label{
		Process: process, Source: strings.ToValidUTF8(string(source), "\uFFFD"), Test: strings.ToValidUTF8(string(test), "\uFFFD"),
	}, err == nil && err1 == nil && err2 == nil
}

// program is how a process is called where it has no name of its own: "node server.js".
func program(argv []string) string {
	if len(argv) == 0 {
		return ""
	}
	name := path.Base(argv[0])
	valued := []string{"--import", "--require", "-r", "--loader", "--experimental-loader", "--env-file", "--conditions", "-C", "-m"}
	for i, arg := range argv[1:] {
		if arg != "" && !strings.HasPrefix(arg, "-") && !slices.Contains(valued, argv[i]) {
			return cut(name+" "+path.Base(arg), maxNameBytes)
		}
	}
	return cut(name, maxNameBytes)
}
