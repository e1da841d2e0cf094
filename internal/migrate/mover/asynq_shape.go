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
	switch len(k.Opts) {
	case 2:
		v.set(fieldOpts, k.Opts[0]+at+k.Opts[1])
	case 3:
		v.set(fieldOpts, k.Opts[0]+id+k.Opts[1]+at+k.Opts[2])
	default:
		return false
	}
	v.set(fieldTimestamp, at)
	for f := fieldTimestamp + 1; f < fieldState; f++ {
		if s, ok := k.Fields[f.String()]; ok {
			v.set(f, s)
		}
	}
	return true
}

// learnEnter keeps the shape of a job that waits and has nothing but options, and what it becomes: enter.lua
// then knows all jobs that differ from it in id, time and data alone. It says whether it will know this one.
func (m *Mover) learnEnter(c *chunk, k *claim, e entry) bool {
	l := c.lane
	if l.state != Waiting && l.state != Paused || k.action != statusMoved || k.dedupID != "" || k.scheduler != "" {
		return false
	}
	v, problem := parseSeen(e.seen, m.opts.fields(false))
	stamp := v.val[fieldTimestamp]
	const digitsOfNow = 13 // milliseconds, until the year 2286
	if problem != nil || !isCounter(stamp) || len(stamp) != digitsOfNow || !isPlainID(k.id) {
		return false
	}
	const word = `"timestamp":`
	before, after, ok := strings.Cut(v.val[fieldOpts], word+stamp)
	tail, rest, found := strings.Cut(k.tail, stamp)
	if !ok || !found || strings.Contains(rest, stamp) || !utf8.ValidString(v.val[fieldOpts]) {
		return false
	}
	opts := []string{before + word, after}
	first, middle, named := strings.Cut(before, `"jobId":"`+k.id+`"`)
	if _, counted := digits(k.id); named && !counted {
		opts = []string{first + `"jobId":"`, `"` + middle + word, after}
	}
	others := map[string]string{}
	var words []string
	for f := fieldTimestamp + 1; f < fieldState; f++ {
		if v.has[f] {
			if !utf8.ValidString(v.val[f]) {
				return false
			}
			others[f.String()] = v.val[f]
			words = append(words, f.String(), v.val[f])
		}
	}
	text, err := json.Marshal(kept{Opts: opts, Fields: others})
	if err != nil {
		return false
	}
	if len(opts) == 2 {
		opts = append([]string{seenAbsent}, opts...)
	}
	form := append(opts, k.head, tail, rest, strconv.Itoa(k.band), strconv.Itoa(k.losses), string(text), strconv.Itoa(len(others)))
	form = append(form, words...)
	if slices.ContainsFunc(c.forms, func(known []string) bool { return slices.Equal(known, form) }) {
		return true
	}
	if len(c.forms) == maxShapes {
		return false
	}
	c.forms = append(c.forms, form)
	return true
}

// isPlainID says whether enter.lua takes a job of this id by its shape: a number of the counter, or one that
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
