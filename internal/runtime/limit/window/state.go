package window

import (
	"fmt"
	"strconv"
	"strings"
)

// A State is what is known of one subject under one policy. The zero value is a subject that has used
// nothing. It is for one goroutine at a time.
type State struct {
	// Log and Sliding: entries of units, oldest first.
	width   int64 // of one quantum, in microseconds
	entries []entry
	total   int64

	// Counter, Fixed and Calendar: counts of the period that began at start, and of the one before.
	start, count, prev int64

	// Bucket: the level in microseconds, at base; it falls by one a microsecond.
	base  int64
	level float64
}

// An entry is units that count from the quantum at on.
type entry struct{ at, count int64 }

// prune forgets what is older than the period.
func (s *State) prune(period, now int64) {
	n := 0
	for n < len(s.entries) && !counts(s.entries[n].at, s.width, period, now) {
		s.total -= s.entries[n].count
		n++
	}
	s.entries = s.entries[n:]
}

// counts is whether any moment of the quantum at may be in the period that ends now.
func counts(at, width, period, now int64) bool {
	return at*width+width-1 > now-period
}

// rewiden keeps a state that was written with another width, as one entry at its newest time: nothing
// is forgotten too early.
func (s *State) rewiden(width int64) {
	if s.width == width || len(s.entries) == 0 {
		s.width = width
		return
	}
	newest := s.entries[len(s.entries)-1].at*s.width + s.width - 1
	s.width = width
	s.entries = []entry{{newest / width, s.total}}
}

// add counts n units in the quantum at, or in the newest one if that is later.
func (s *State) add(at, n int64) int64 {
	s.total += n
	if last := len(s.entries) - 1; last >= 0 && s.entries[last].at >= at {
		s.entries[last].count += n
		return s.entries[last].at
	}
	s.entries = append(s.entries, entry{at, n})
	return at
}

// give takes n units out of the quantum at.
func (s *State) give(at, n int64) {
	for i := range s.entries {
		if s.entries[i].at != at {
			continue
		}
		n = min(n, s.entries[i].count)
		s.entries[i].count -= n
		s.total -= n
		if s.entries[i].count == 0 {
			s.entries = append(s.entries[:i:i], s.entries[i+1:]...)
		}
		return
	}
}

// Encode is s as the text that is kept in Redis for p.
func (s *State) Encode(p Policy) string {
	switch p.Algorithm {
	case Log, Sliding:
		return s.encodeLog()
	case Counter:
		return fmt.Sprintf("C1:%d:%d:%d", s.start, s.prev, s.count)
	case Fixed, Calendar:
		return fmt.Sprintf("F1:%d:%d", s.start, s.count)
	case Bucket:
	}
	return fmt.Sprintf("G1:%d:%s", s.base, strconv.FormatFloat(s.level, 'g', 17, 64))
}

// encodeLog writes, after the head, a gap and a count for each entry but the last, in hexadecimal; a
// count of one is left out.
func (s *State) encodeLog() string {
	if len(s.entries) == 0 {
		return ""
	}
	first, last := s.entries[0], s.entries[len(s.entries)-1]
	var b strings.Builder
	fmt.Fprintf(&b, "L1:%d:%x:%x:%x:%x:", s.width, first.at, last.at, last.count, s.total)
	for i, e := range s.entries[:len(s.entries)-1] {
		fmt.Fprintf(&b, "%x", s.entries[i+1].at-e.at)
		if e.count > 1 {
			fmt.Fprintf(&b, ".%x", e.count)
		}
		b.WriteByte(';')
	}
	return b.String()
}

// Decode reads what Encode wrote. A text of another algorithm, or one that is damaged, is a subject that
// has used nothing: the rule was changed, or the key is not ours.
func Decode(p Policy, text string) State {
	s, err := decode(p, text)
	if err != nil {
		return State{}
	}
	return s
}

func decode(p Policy, text string) (State, error) {
	f := strings.Split(text, ":")
	want := map[Algorithm]string{Log: "L1", Sliding: "L1", Counter: "C1", Fixed: "F1", Calendar: "F1", Bucket: "G1"}[p.Algorithm]
	if f[0] != want {
		return State{}, fmt.Errorf("%q is not of %s", text, p.Algorithm)
	}
	r := fieldReader{fields: f[1:]}
	var s State
	switch p.Algorithm {
	case Log, Sliding:
		s = r.log()
	case Counter:
		s.start, s.prev, s.count = r.next(10), r.next(10), r.next(10)
	case Fixed, Calendar:
		s.start, s.count = r.next(10), r.next(10)
	case Bucket:
		s.base = r.next(10)
		s.level = r.float()
	}
	return s, r.err
}

// A fieldReader reads numbers in order and keeps the first error.
type fieldReader struct {
	fields []string
	err    error
}

func (r *fieldReader) text() string {
	if len(r.fields) == 0 {
		r.fail(fmt.Errorf("too few fields"))
		return ""
	}
	field := r.fields[0]
	r.fields = r.fields[1:]
	return field
}

func (r *fieldReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *fieldReader) number(text string, base int) int64 {
	n, err := strconv.ParseInt(text, base, 64)
	if err != nil || n < 0 || n >= 1<<53 {
		r.fail(fmt.Errorf("%q is not a number here", text))
		return 0
	}
	return n
}

func (r *fieldReader) next(base int) int64 { return r.number(r.text(), base) }

func (r *fieldReader) float() float64 {
	v, err := strconv.ParseFloat(r.text(), 64)
	if err != nil || !(v >= 0 && v < 1<<53) {
		r.fail(fmt.Errorf("not a level"))
		return 0
	}
	return v
}

func (r *fieldReader) log() State {
	s := State{width: r.next(10)}
	at, last, lastCount, total := r.next(16), r.next(16), r.next(16), r.next(16)
	for item := range strings.SplitSeq(strings.TrimSuffix(r.text(), ";"), ";") {
		if item == "" {
			break
		}
		gap, count, counted := strings.Cut(item, ".")
		e := entry{at, 1}
		if counted {
			e.count = r.number(count, 16)
		}
		at += r.number(gap, 16)
		s.entries = append(s.entries, e)
		s.total += e.count
		if r.err != nil {
			return State{}
		}
	}
	s.entries = append(s.entries, entry{last, lastCount})
	s.total += lastCount
	if s.width < 1 || at != last || s.total != total || lastCount < 1 {
		r.fail(fmt.Errorf("head and body differ"))
	}
	return s
}
