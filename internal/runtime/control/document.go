// Package control keeps the one document that says which share of keys takes a new route, which
// queues are paused and which kill switches are thrown.
//
// It lives in one key of the upstream. A change is a compare-and-set on its epoch; replicas hear of it
// over the bell, look again after a gap and with a slow sweep, keep the last one on disk, and go on
// working from there while the upstream is down. An emergency override is local to one replica and
// holds until a higher epoch appears.
package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Schema is the schema number of the documents this program reads and writes. Fields may be added
// without raising it: a program that does not know them keeps them.
const Schema = 1

// maxBytes bounds a stored document. One with a hundred routes has some 10 KB.
const maxBytes = 1 << 20

// A Document is what is in force for all replicas. The zero value changes nothing: no route has keys,
// no queue is paused, no switch is thrown.
type Document struct {
	// Schema is the document's schema number; 0 in one that was never stored.
	Schema int `json:"schema"`

	// Epoch counts the changes, from 1. It is 0 in a document that was never stored.
	Epoch int64 `json:"epoch"`

	// Ramps is the percentage of keys, 0 to 100, that takes each route. A route that is not in it has
	// none. Steps finer than 0.01 are not seen.
	Ramps map[string]float64 `json:"ramps"`

	// Paused are the queues that are paused, sorted.
	Paused []string `json:"paused"`

	// Kill are the kill switches that are thrown, sorted: names of routes, and of features of this
	// program such as cache, limit and gateway.
	Kill []string `json:"kill"`

	// By is who made the change, and Reason why; for people.
	By     string `json:"by"`
	Reason string `json:"reason"`

	// Updated is when the change was made, by the clock of who made it. It decides nothing.
	Updated time.Time `json:"updated"`

	// extra are the fields of the same schema that this program does not know.
	extra map[string]json.RawMessage
}

// A SchemaError means that a newer program wrote the control document.
type SchemaError struct {
	Where string // key or file
	Got   int64
	Known int64
}

// Error says which schema was found and which is known.
func (e *SchemaError) Error() string {
	return fmt.Sprintf("the control document in %s has schema %d, this program knows %d; use the newer program", e.Where, e.Got, e.Known)
}

// A DamagedError means that what is stored is no control document.
type DamagedError struct {
	Where string // key or file
	Why   string
}

// Error says where it is, what is wrong with it and what to do.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("what %s holds is no control document: %s; look at it, remove it, and set the document again", e.Where, e.Why)
}

// Clone is a copy that shares nothing with d.
func (d Document) Clone() Document {
	d.Ramps = maps.Clone(d.Ramps)
	d.Paused = slices.Clone(d.Paused)
	d.Kill = slices.Clone(d.Kill)
	d.extra = maps.Clone(d.extra)
	return d
}

// Killed is whether the kill switch name is thrown.
func (d Document) Killed(name string) bool { return slices.Contains(d.Kill, name) }

// PausedQueue is whether the queue name is paused.
func (d Document) PausedQueue(name string) bool { return slices.Contains(d.Paused, name) }

// same is whether two documents say the same, whatever their order and however they are written.
func (d Document) same(o Document) bool {
	a, errA := json.Marshal(d.normal())
	b, errB := json.Marshal(o.normal())
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// normal is d in the one form in which it is stored: lists sorted, without repetition, none nil.
func (d Document) normal() Document {
	d = d.Clone()
	if d.Ramps == nil {
		d.Ramps = map[string]float64{}
	}
	for _, list := range []*[]string{&d.Paused, &d.Kill} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
		if *list == nil {
			*list = []string{}
		}
	}
	d.Updated = d.Updated.UTC().Truncate(time.Millisecond)
	return d
}

// Validate reports all problems of what a person may set: ramps, names, by and reason.
func (d Document) Validate() error {
	var errs []error
	for _, route := range slices.Sorted(maps.Keys(d.Ramps)) {
		if err := checkName(route); err != nil {
			errs = append(errs, fmt.Errorf("ramps: %w", err))
		}
		if p := d.Ramps[route]; math.IsNaN(p) || p < 0 || p > 100 {
			errs = append(errs, fmt.Errorf("ramps.%s: got %v, want a percentage from 0 to 100", route, p))
		}
	}
	for field, names := range map[string][]string{"paused": d.Paused, "kill": d.Kill} {
		for _, name := range names {
			if err := checkName(name); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", field, err))
			}
		}
	}
	for field, text := range map[string]string{"by": d.By, "reason": d.Reason} {
		if len(text) > 1000 || !utf8.ValidString(text) {
			errs = append(errs, fmt.Errorf("%s: want at most 1000 bytes of UTF-8", field))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func checkName(name string) error {
	switch {
	case name == "" || len(name) > 200:
		return fmt.Errorf("a name of %d bytes, want 1 to 200", len(name))
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("name %q: want printable UTF-8", name)
	}
	return nil
}

// plain has the fields of Document without its methods, so that encoding does not call itself.
type plain Document

// MarshalJSON writes the fields this program knows and those it was given.
func (d Document) MarshalJSON() ([]byte, error) {
	known, err := json.Marshal(plain(d))
	if err != nil || len(d.extra) == 0 {
		return known, err
	}
	all := maps.Clone(d.extra)
	var own map[string]json.RawMessage
	if err := json.Unmarshal(known, &own); err != nil {
		return nil, err
	}
	maps.Copy(all, own) // what we know is ours to say
	return json.Marshal(all)
}

// UnmarshalJSON reads the fields this program knows and keeps the others.
func (d *Document) UnmarshalJSON(text []byte) error {
	var p plain
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	for name := range all {
		// encoding/json takes "Epoch" for "epoch" too; what it took is not unknown.
		switch strings.ToLower(name) {
		case "schema", "epoch", "ramps", "paused", "kill", "by", "reason", "updated":
			delete(all, name)
		}
	}
	*d = Document(p)
	if len(all) > 0 {
		d.extra = all
	}
	return nil
}

// parse reads a stored document. Where names the key or file in errors.
func parse(text []byte, where string) (Document, error) {
	if len(text) > maxBytes {
		return Document{}, &DamagedError{where, fmt.Sprintf("%d bytes long", len(text))}
	}
	// The schema first: what a newer one means is not for us to read.
	var head struct {
		Schema *int64 `json:"schema"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return Document{}, &DamagedError{where, "not JSON, or cut off"}
	}
	switch {
	case head.Schema == nil || *head.Schema < 1:
		return Document{}, &DamagedError{where, "it has no schema number"}
	case *head.Schema > Schema:
		return Document{}, &SchemaError{where, *head.Schema, Schema}
	}
	var d Document
	if err := json.Unmarshal(text, &d); err != nil {
		return Document{}, &DamagedError{where, "a field of another kind than it must be"}
	}
	if d.Epoch < 1 {
		return Document{}, &DamagedError{where, fmt.Sprintf("its epoch is %d", d.Epoch)}
	}
	if err := d.Validate(); err != nil {
		return Document{}, &DamagedError{where, strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return d.normal(), nil
}
