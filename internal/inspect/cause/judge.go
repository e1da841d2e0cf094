package cause

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/inspect"
)

// Facts are what is known besides the log. The zero value is nothing.
type Facts struct {
	// Connections and Limit are how many are open and allowed; Limit 0 is not known.
	Connections int
	Limit       int

	// Rejected is how many connections the server has turned away since it started; -1 is not known.
	Rejected int64

	// Uptime is how long the server has been running; 0 is not known.
	Uptime time.Duration

	// LongestIdle is the longest that an open connection has been idle; 0 is not known.
	LongestIdle time.Duration

	// TLS is whether this program reaches the server with TLS; nil is not known.
	TLS *bool

	// Reached is that this program talked to the server. Seen is a cause that it met instead, with the
	// error's text.
	Reached  bool
	Seen     Kind
	SeenText string

	// Now is when the facts were taken.
	Now time.Time
}

// A Confidence is how sure a cause is.
type Confidence string

// The confidences. Low is one of several that fit.
const (
	High   Confidence = "high"
	Medium Confidence = "medium"
	Low    Confidence = "low"
)

// A Cause is why connections fail.
type Cause struct {
	Kind       Kind       `json:"kind"`
	Confidence Confidence `json:"confidence,omitempty"` // empty for one that is ruled out
	Errors     int64      `json:"errors"`               // that it explains
	Summary    string     `json:"summary"`
	For        []string   `json:"for"`
	Against    []string   `json:"against"`
	Next       string     `json:"next"` // what to type or to change
	score      int
	decided    bool
}

// farBelow is the share of a limit under which it is not blamed.
const farBelow = 0.5

// burst is how close together errors are that one event made.
const burst = 5 * time.Second

// Judge names the causes, the surest first, and those that what is known speaks against. A log without
// errors of connections has none.
func Judge(l *Log, f Facts) (causes, ruledOut []Cause) {
	found := map[Kind]*Cause{}
	get := func(k Kind) *Cause {
		if found[k] == nil {
			found[k] = &Cause{Kind: k, For: []string{}, Against: []string{}, Summary: summary(k), Next: next(k)}
		}
		return found[k]
	}
	for _, s := range signs() {
		n := l.bySign[s.name]
		switch {
		case n == 0 || s.symptom:
		case s.decides != "":
			c := get(s.decides)
			c.decided = true
			c.score += 10
			c.Errors += n
			c.For = append(c.For, fmt.Sprintf("%s (%s)", s.name, times(n)))
		default:
			for _, k := range s.fits {
				c := get(k)
				c.score += 2
				c.Errors += n
				c.For = append(c.For, fmt.Sprintf("%s (%s), which fits", s.name, times(n)))
			}
		}
	}
	if n := l.bySign[nameOf("connection is closed")]; n == l.Errors && n > 0 { // a symptom, and nothing else
		for _, k := range []Kind{IdleClose, Restart} {
			c := get(k)
			c.score++
			c.Errors += n
			c.For = append(c.For, fmt.Sprintf("the connection was closed (%s), and no other error was logged", times(n)))
		}
	}
	if f.Seen != "" {
		c := get(f.Seen)
		c.decided = true
		c.score += 10
		c.For = append(c.For, "this program met it just now: "+f.SeenText)
	}
	j := &judge{log: l, facts: f, found: found}
	j.limit()
	j.restart()
	j.tls()
	j.idle()
	return j.rank()
}

type judge struct {
	log   *Log
	facts Facts
	found map[Kind]*Cause
}

func (j *judge) speak(k Kind, points int, format string, args ...any) {
	c := j.found[k]
	if c == nil {
		return
	}
	c.score += points
	text := fmt.Sprintf(format, args...)
	if points > 0 {
		c.For = append(c.For, text)
	} else {
		c.Against = append(c.Against, text)
	}
}

// limit compares with the real limit. Far below it, it is not to blame; only the server's own word is
// stronger, and then what it counted is told.
func (j *judge) limit() {
	f := j.facts
	if j.log.bySign[nameOf("econnrefused")] > 0 {
		j.speak(ConnectionLimit, -4, "connections were refused, where a server at its limit accepts them and closes")
	}
	if f.Limit > 0 {
		share := float64(f.Connections) / float64(f.Limit)
		switch {
		case share < farBelow:
			j.speak(ConnectionLimit, -8, "%d of %d connections are open, %.1f%% of the limit", f.Connections, f.Limit, 100*share)
		case share >= 0.9:
			j.speak(ConnectionLimit, 5, "%d of %d connections are open, %.1f%% of the limit", f.Connections, f.Limit, 100*share)
		default:
			j.speak(ConnectionLimit, 1, "%d of %d connections are open now; there may have been more", f.Connections, f.Limit)
		}
	}
	switch {
	case f.Rejected > 0:
		j.speak(ConnectionLimit, 4, "the server has turned away %d connections since it started", f.Rejected)
	case f.Rejected == 0 && f.Limit > 0:
		j.speak(ConnectionLimit, -4, "the server has turned away no connection since it started")
	}
}

// restart looks for one moment at which everything failed, and at the server's age.
func (j *judge) restart() {
	closed := j.log.bySign[nameOf("econnreset")] + j.log.bySign[nameOf("socket closed unexpectedly")]
	if refused := j.log.bySign[nameOf("econnrefused")]; refused > 0 && closed > 0 {
		j.speak(Restart, 2, "connections were open before others were refused")
		j.speak(Refused, -1, "connections were open before others were refused")
	}
	if n, at := j.log.bursts(); n >= 3 {
		j.speak(Restart, 3, "%d errors within %s, at %s", n, burst, at.Format(time.RFC3339))
		j.speak(IdleClose, -1, "%d errors at one moment, where idle connections end one by one", n)
	}
	f := j.facts
	if f.Uptime <= 0 || f.Now.IsZero() || j.log.First.IsZero() {
		return
	}
	started := f.Now.Add(-f.Uptime)
	switch {
	case started.Before(j.log.First.Add(-time.Minute)):
		j.speak(Restart, -4, "the server has been running since %s, before the first error", started.UTC().Format(time.RFC3339))
	case !started.After(j.log.Last.Add(time.Minute)):
		j.speak(Restart, 5, "the server started at %s, while the errors came", started.UTC().Format(time.RFC3339))
	}
}

// tls weighs the address in the log against the way this program reaches the server.
func (j *judge) tls() {
	f := j.facts
	switch {
	case f.TLS == nil:
	case *f.TLS && j.log.plain && !j.log.secure:
		j.speak(TLSMismatch, 6, "the server speaks TLS, and the log has an address with redis://")
	case !*f.TLS && j.log.secure && !j.log.plain:
		j.speak(TLSMismatch, 6, "the server does not speak TLS, and the log has an address with rediss://")
	case *f.TLS:
		j.speak(TLSMismatch, 1, "the server speaks TLS, so a client without it is cut off")
	case j.log.bySign[nameOf("connect etimedout")]+j.log.bySign[nameOf("context deadline exceeded")] > 0:
		j.speak(TLSMismatch, 1, "the server does not speak TLS, so a client with it waits for an answer that never comes")
	default:
		j.speak(TLSMismatch, -2, "the server is reached without TLS, and a client with it would wait, not be cut off")
	}
	if n := j.log.bySign[nameOf("econnrefused")]; n > 0 {
		j.speak(TLSMismatch, -2, "the connection was refused as well, which TLS does not explain")
	}
}

// idle weighs connections that live long without being used.
func (j *judge) idle() {
	f := j.facts
	if f.Reached {
		j.speak(Unreachable, -1, "this program reached the server, from where it runs")
		j.speak(Refused, -1, "this program reached the server, from where it runs")
	}
	if gap, n := j.log.rhythm(); n >= 4 {
		j.speak(IdleClose, 4, "errors come about every %s, as a timeout makes them", gap)
		j.speak(IdleNAT, 2, "errors come about every %s, as a timeout makes them", gap)
	}
	if f.LongestIdle >= 10*time.Minute {
		j.speak(IdleClose, -3, "a connection has been idle for %s and is open", f.LongestIdle.Round(time.Second))
		j.speak(IdleNAT, -1, "a connection has been idle for %s and is open, perhaps from another network", f.LongestIdle.Round(time.Second))
	}
}

// rank orders the causes. One that is decided explains its own errors only, so others stay beside it.
func (j *judge) rank() (out, ruledOut []Cause) {
	out, ruledOut = []Cause{}, []Cause{}
	for _, c := range j.found {
		if c.score < 1 && !c.decided {
			if len(c.Against) > 0 {
				ruledOut = append(ruledOut, *c)
			}
			continue
		}
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Cause) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(b.Errors, a.Errors), cmp.Compare(a.Kind, b.Kind))
	})
	slices.SortFunc(ruledOut, func(a, b Cause) int { return cmp.Compare(a.Kind, b.Kind) })
	for i := range out {
		c := &out[i]
		lead := 3
		if i+1 < len(out) {
			lead = c.score - out[i+1].score
		}
		switch {
		case c.decided && c.score >= 6:
			c.Confidence = High
		case i == 0 && c.score >= 5 && lead >= 2, c.decided:
			c.Confidence = Medium
		default:
			c.Confidence = Low
		}
	}
	return out, ruledOut
}

// bursts is the most errors within burst, and when they began.
func (l *Log) bursts() (most int, at time.Time) {
	sorted := slices.SortedFunc(slices.Values(l.times), time.Time.Compare)
	begin := 0
	for i, t := range sorted {
		for t.Sub(sorted[begin]) > burst {
			begin++
		}
		if n := i - begin + 1; n > most {
			most, at = n, sorted[begin]
		}
	}
	return most, at
}

// rhythm is the usual time between errors, and how many gaps are like it; 0 where they have none.
func (l *Log) rhythm() (gap time.Duration, n int) {
	sorted := slices.SortedFunc(slices.Values(l.times), time.Time.Compare)
	var gaps []time.Duration
	for i := 1; i < len(sorted); i++ {
		if d := sorted[i].Sub(sorted[i-1]); d > burst {
			gaps = append(gaps, d)
		}
	}
	if len(gaps) < 4 {
		return 0, 0
	}
	slices.Sort(gaps)
	gap = gaps[len(gaps)/2]
	for _, d := range gaps {
		if d > gap*9/10 && d < gap*11/10 {
			n++
		}
	}
	if n*4 < len(gaps)*3 {
		return 0, 0
	}
	return gap.Round(time.Second), n
}

// nameOf is the name of the sign that text shows.
func nameOf(text string) string {
	if s := signOf(signs(), text); s != nil {
		return s.name
	}
	return ""
}

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// Findings are the causes as an audit tells them: a decided one that stops the application is critical.
func Findings(causes []Cause, subject string) []inspect.Finding {
	out := []inspect.Finding{}
	for _, c := range causes {
		severity := inspect.Note
		switch c.Confidence {
		case High:
			severity = inspect.Critical
		case Medium:
			severity = inspect.Warning
		case Low:
		}
		message := fmt.Sprintf("%s (confidence %s): %s", c.Summary, c.Confidence, strings.Join(c.For, "; "))
		if len(c.Against) > 0 {
			message += "; against it: " + strings.Join(c.Against, "; ")
		}
		out = append(out, inspect.Finding{Rule: "connection-errors-" + string(c.Kind), Severity: severity, Subject: subject, Message: message, Remedy: c.Next})
	}
	return out
}
