package mover

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A kept is what moved_from says of the hash of a job that went to asynq by its shape: everything but the
// time it was added, which is in its message, and the data, which is the payload.
type kept struct {
	// Opts are the options in three parts: before the id, from there to the timestamp, and behind it. Of a job
	// whose options do not name its id there are the last two.
	Opts []string `json:"opts"`

	// Fields are all other fields.
	Fields map[string]string `json:"fields"`
}

// fill puts into v what k says of the job called id, added at the given time.
func (k *kept) fill(v *view, id, at string) bool {
	if len(k.Opts) != 2 && len(k.Opts) != 3 {
		return false
	}
	v.set(fieldOpts, joinOpts(k.Opts, id, at))
	v.set(fieldTimestamp, at)
	for f := fieldTimestamp + 1; f < fieldState; f++ {
		if s, ok := k.Fields[f.String()]; ok {
			v.set(f, s)
		}
	}
	return true
}

// maxShapes is how many shapes of jobs are kept for one container.
const maxShapes = 16

// learn keeps the shape of a job, so that the script can move the jobs that look like it without showing them
// first: those that differ from it in id, time and data alone. Active jobs are never taken unseen, and on the
// way back the ledger has to be asked about each. It says whether the script will know this very job.
func (r *run) learn(c *chunk, k *claim, e entry) bool {
	form, ok := r.form(c.lane, k, e)
	if !ok {
		return false
	}
	same := func(known []string) bool { return slices.Equal(known, form) }
	if slices.ContainsFunc(c.shapes, same) {
		return true
	}
	if len(c.shapes) == maxShapes || !r.isUniform(c.lane, k, e, form) {
		return false
	}
	c.shapes = append(c.shapes, form)
	return true
}

// isUniform says whether a job of another id and time would have the same form.
func (m *Mover) isUniform(l lane, k *claim, e entry, form []string) bool {
	v, problem := parseSeen(e.seen, m.opts.fields(m.inPlace()))
	if problem != nil {
		return false
	}
	id, stamp := "7", "1111111111111"
	if _, counted := digits(k.id); !counted {
		id = "another/7:x"
	}
	if k.id == id {
		id = strings.Replace(id, "7", "8", 1)
	}
	if v.val[fieldTimestamp] == stamp {
		stamp = "1111111111112"
	}
	parts := cutOpts(v.val[fieldOpts], k.id, v.val[fieldTimestamp])
	v.set(fieldOpts, joinOpts(parts, id, stamp))
	v.set(fieldTimestamp, stamp)
	var words []string
	for _, f := range m.opts.fields(m.inPlace()) {
		if v.has[f] {
			words = append(words, v.val[f])
		} else {
			words = append(words, seenAbsent)
		}
	}
	other := entry{id: id, score: e.score, seen: strings.Join(words, seenSeparator)}
	claim, problem, _ := m.decide(l, other)
	if problem != nil {
		return false
	}
	another, ok := m.form(l, &claim, other)
	return ok && slices.Equal(form, another)
}

// form is the shape of a job and what becomes of it, as the script is told them; false when the job must be
// shown.
func (m *Mover) form(l lane, k *claim, e entry) ([]string, bool) {
	switch {
	case m.opts.To.Layout == Asynq:
		return m.formEnter(l, k, e)
	case m.opts.From.Layout == Asynq || l.state == Active || l.edit || m.opts.Reverse || m.inPlace():
		return nil, false
	}
	if n, ok := digits(k.id); ok && n > m.idKnown || !ok && !strings.ContainsAny(k.id, "0123456789") || !isPlainID(k.id) {
		return nil, false
	}
	if k.action != statusMoved || k.newID != k.id || k.priority != "" || k.dedupID != "" || k.scheduler != "" {
		return nil, false
	}
	edited := k.undo != "" || k.losses > 0 || len(k.hset) > 0 || len(k.hdel) > 0
	if edited && l.state != Waiting && l.state != Paused {
		return nil, false
	}
	fields := m.opts.fields(false)
	v, problem := parseSeen(e.seen, fields)
	stamp := v.val[fieldTimestamp]
	if problem != nil || !isCounter(stamp) {
		return nil, false
	}
	opts := cutOpts(v.val[fieldOpts], k.id, stamp)
	undo, ok := undoForm(k.undo, stamp)
	if opts == nil || !ok {
		return nil, false
	}
	form := threeParts(opts)
	for _, f := range fields[2:] { // behind opts and timestamp
		if v.has[f] {
			form = append(form, v.val[f])
		} else {
			form = append(form, seenAbsent)
		}
	}
	become := []string{seenAbsent, "", seenAbsent}
	var words []string
	for i := 0; i < len(k.hset); i += 2 {
		switch k.hset[i] {
		case fieldTimestamp.String():
			return nil, false
		case fieldOpts.String():
			parts := cutOpts(k.hset[i+1], k.id, stamp)
			if parts == nil {
				return nil, false
			}
			become = threeParts(parts)
		default:
			words = append(words, k.hset[i], k.hset[i+1])
		}
	}
	form = append(form, become...)
	form = append(form, undo, strconv.Itoa(k.losses), strconv.Itoa(len(words)), strconv.Itoa(len(k.hdel)))
	return append(append(form, words...), k.hdel...), true
}

// undoForm is what follows the time in the undo line of a job; a mark when there is none.
func undoForm(line, stamp string) (string, bool) {
	if line == "" {
		return seenAbsent, true
	}
	var u undoing
	if json.Unmarshal([]byte(line), &u) != nil || len(u.ID) > 0 || u.Fields[fieldTimestamp.String()] != nil || u.Fields[fieldOpts.String()] != nil {
		return "", false
	}
	return strings.CutPrefix(line, `{"ts":"`+stamp)
}

// cutOpts cuts the id and the timestamp out of opts: two parts, or three where the id is named. It returns nil
// when there is no timestamp.
func cutOpts(opts, id, stamp string) []string {
	const word = `"timestamp":`
	before, after, ok := strings.Cut(opts, word+stamp)
	if !ok {
		return nil
	}
	if first, middle, named := strings.Cut(before, `"jobId":"`+id+`"`); named {
		return []string{first + `"jobId":"`, `"` + middle + word, after}
	}
	return []string{before + word, after}
}

// joinOpts is what cutOpts has cut, of another job.
func joinOpts(parts []string, id, stamp string) string {
	switch len(parts) {
	case 2:
		return parts[0] + stamp + parts[1]
	case 3:
		return parts[0] + id + parts[1] + stamp + parts[2]
	}
	return ""
}

// threeParts are parts as the scripts are told them.
func threeParts(parts []string) []string {
	if len(parts) == 2 {
		return []string{seenAbsent, parts[0], parts[1]}
	}
	return slices.Clone(parts)
}

// formEnter is form on the way to asynq.
func (m *Mover) formEnter(l lane, k *claim, e entry) ([]string, bool) {
	if l.state != Waiting && l.state != Paused || k.action != statusMoved || k.dedupID != "" || k.scheduler != "" {
		return nil, false
	}
	v, problem := parseSeen(e.seen, m.opts.fields(false))
	stamp := v.val[fieldTimestamp]
	const digitsOfNow = 13 // milliseconds, until the year 2286
	if problem != nil || !isCounter(stamp) || len(stamp) != digitsOfNow || !isPlainID(k.id) {
		return nil, false
	}
	opts := cutOpts(v.val[fieldOpts], k.id, stamp)
	tail, rest, found := strings.Cut(k.tail, stamp)
	if opts == nil || !found || strings.Contains(rest, stamp) || !utf8.ValidString(v.val[fieldOpts]) {
		return nil, false
	}
	others := map[string]string{}
	var words []string
	for f := fieldTimestamp + 1; f < fieldState; f++ {
		if v.has[f] {
			if !utf8.ValidString(v.val[f]) {
				return nil, false
			}
			others[f.String()] = v.val[f]
			words = append(words, f.String(), v.val[f])
		}
	}
	text, err := json.Marshal(kept{Opts: opts, Fields: others})
	if err != nil {
		return nil, false
	}
	form := append(threeParts(opts), k.head, tail, rest, strconv.Itoa(k.band), strconv.Itoa(k.losses), string(text),
		strconv.Itoa(len(others)))
	return append(form, words...), true
}

// isPlainID says whether the scripts take a job of this id by its shape: a number of the counter, or one that
// is the same in JSON and as part of a key, and has no meaning to any of the layouts.
func isPlainID(id string) bool {
	if n, ok := digits(id); ok {
		return n > 0
	}
	const most = 200
	other := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_.:@/+-", r)
	}
	return len(id) <= most && !strings.ContainsFunc(id, other) && strings.ContainsFunc(id, func(r rune) bool { return r < '0' || r > '9' }) &&
		!strings.HasPrefix(id, "cron:") && !strings.HasPrefix(id, "repeat:") && !strings.HasPrefix(id, "0:")
}
