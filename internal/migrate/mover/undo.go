package mover

import (
	"encoding/json"
	"unicode/utf8"
)

// An undoing is what the ledger keeps of a job that the rules alone would not bring back exactly.
type undoing struct {
	Timestamp string            `json:"ts"`            // guards against another job with the same id
	ID        []byte            `json:"id,omitempty"`  // the id at the source, when it was changed
	Fields    map[string][]byte `json:"set,omitempty"` // base64, since not every hash holds UTF-8
	Gone      []string          `json:"del,omitempty"` // fields that the rules add and the source had not

	// Opts are those at the source in parts, where they can be cut and are no field of Fields; see cutOpts.
	Opts []string `json:"opts,omitempty"`
}

func (u *undoing) keep(f field, value string) {
	if u.Fields == nil {
		u.Fields = map[string][]byte{}
	}
	u.Fields[f.String()] = []byte(value)
}

// undoLine is the ledger line for j, which became c; empty when converting back gives j again.
func undoLine(from, to Layout, j *Job, c *change) string {
	u := undoing{Timestamp: j.Timestamp}
	if c.newID != j.ID {
		u.ID = []byte(j.ID)
	}
	back, problem := read(to, c.newID, j.State, j.Score, c.after)
	var again view
	if problem == nil {
		again, _ = write(from, back)
	}
	for f := range numFields {
		switch {
		case j.before.has[f] && (!again.has[f] || again.val[f] != j.before.val[f]):
			if f == fieldOpts && utf8.ValidString(j.before.val[f]) {
				if u.Opts = cutOpts(j.before.val[f], j.ID, j.Timestamp); u.Opts != nil {
					continue
				}
			}
			u.keep(f, j.before.val[f])
		case again.has[f] && !j.before.has[f]:
			u.Gone = append(u.Gone, f.String())
		}
	}
	if len(u.ID) == 0 && u.Fields == nil && u.Gone == nil && u.Opts == nil {
		return ""
	}
	line, err := json.Marshal(u)
	if err != nil {
		return ""
	}
	return string(line)
}

// restore puts back what the ledger kept of j. Where the job has moved on since (a retry, a changed
// priority), what it has become counts, and only what nobody touched is restored.
func (c *change) restore(from, to Layout, j *Job, line string) {
	var u undoing
	if err := json.Unmarshal([]byte(line), &u); err != nil || u.Timestamp != j.Timestamp {
		return
	}
	if len(u.ID) > 0 {
		c.newID = string(u.ID)
	}
	if len(u.Opts) > 0 {
		id := j.ID
		if len(u.ID) > 0 {
			id = c.newID
		}
		u.keep(fieldOpts, joinOpts(u.Opts, id, u.Timestamp))
	}
	exact := c.after
	for f := range numFields {
		if s, ok := u.Fields[f.String()]; ok {
			exact.set(f, string(s))
		}
	}
	for _, name := range u.Gone {
		for f := range numFields {
			if f.String() == name {
				exact.drop(f)
			}
		}
	}
	if exact == j.before { // in place: restored by an earlier pass
		c.after, c.losses = exact, nil
		return
	}
	if c.becomes(to, from, j, exact) {
		c.after = exact
		c.losses = nil
		return
	}
	// Not the job it was: the options alone, if they are what we made of them.
	opts, ok := u.Fields[fieldOpts.String()]
	if !ok {
		return
	}
	partly := c.after
	partly.set(fieldOpts, string(opts))
	if j.before.val[fieldOpts] == string(opts) { // in place: restored by an earlier pass
		c.after = partly
		return
	}
	orig, problem := read(to, j.ID, j.State, j.Score, partly)
	if problem != nil {
		return
	}
	forward, _ := write(from, orig)
	if forward.val[fieldOpts] == j.before.val[fieldOpts] {
		c.after = partly
	}
}

// becomes says whether exact, in layout to, is what turned into j's present hash.
func (c *change) becomes(to, from Layout, j *Job, exact view) bool {
	orig, problem := read(to, j.ID, j.State, j.Score, exact)
	if problem != nil {
		return false
	}
	forward, _ := write(from, orig)
	for _, f := range fieldsOf(from, false) {
		if forward.has[f] != j.before.has[f] || forward.val[f] != j.before.val[f] {
			return false
		}
	}
	return true
}
