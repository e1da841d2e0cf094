package mover

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// bullView is a Bull job hash as its reader sees it.
func bullView(fields map[string]string) view {
	var v view
	for _, f := range bullFields(false) {
		if s, ok := fields[f.String()]; ok {
			v.set(f, s)
		}
	}
	return v
}

func TestConvertBullJob(t *testing.T) {
	cases := []struct {
		name   string
		state  State
		fields map[string]string
		want   map[string]string // the edits; "" deletes
		losses []string
		undo   bool
	}{
		{
			name: "a plain job needs no edit", state: Waiting,
			fields: map[string]string{"opts": `{"attempts":1,"delay":0,"timestamp":1}`, "priority": "0"},
		},
		{
			name: "tries made move to atm, or the job would be tried forever", state: Delayed,
			fields: map[string]string{"opts": `{"attempts":3,"delay":0,"timestamp":1}`, "attemptsMade": "2", "processedOn": "5"},
			want:   map[string]string{"attemptsMade": "", "atm": "2", "ats": "2"},
		},
		{
			name: "a completed job counts the try that succeeded", state: Completed,
			fields: map[string]string{"opts": `{"attempts":3,"delay":0,"timestamp":1}`, "attemptsMade": "2", "processedOn": "5"},
			want:   map[string]string{"attemptsMade": "", "atm": "3", "ats": "3"},
		},
		{
			name: "a job that completed at once has made one try", state: Completed,
			fields: map[string]string{"opts": `{"attempts":3,"delay":0,"timestamp":1}`, "processedOn": "5"},
			want:   map[string]string{"atm": "1", "ats": "1"},
		},
		{
			name: "stalls move to stc", state: Failed,
			fields: map[string]string{"opts": `{}`, "stalledCounter": "2"},
			want:   map[string]string{"stalledCounter": "", "stc": "2"},
			undo:   true, // Bull's reader would add attempts, delay and timestamp to these opts
		},
		{
			name: "a timeout is lost and the bytes around it are not touched", state: Waiting,
			fields: map[string]string{"opts": `{"a":1e400, "timeout" :5,"z":{"b" : [1,  2]},"timestamp":1}`},
			want:   map[string]string{"opts": `{"a":1e400,"z":{"b" : [1,  2]},"timestamp":1}`},
			losses: []string{"opts.timeout"}, undo: true,
		},
		{
			name: "a priority that BullMQ cannot score is clamped", state: Waiting,
			fields: map[string]string{"opts": `{"priority":5000000}`, "priority": "5000000"},
			want:   map[string]string{"opts": `{"priority":2097151}`, "priority": "2097151"},
			losses: []string{"priority", "opts.priority"}, undo: true,
		},
		{
			name: "debounce becomes deduplication", state: Waiting,
			fields: map[string]string{"opts": `{"debounce":{"id":"d","ttl":9},"attempts":1}`},
			want:   map[string]string{"opts": `{"attempts":1,"de":{"id":"d","ttl":9}}`}, undo: true,
		},
		{
			name: "a finished occurrence forgets its schedule", state: Completed,
			fields: map[string]string{"opts": `{"repeat":{"every":5},"attempts":1}`},
			want:   map[string]string{"opts": `{"attempts":1}`, "atm": "1"}, undo: true,
		},
		{
			name: "a delayed job with a priority runs later than in Bull", state: Delayed,
			fields: map[string]string{"opts": `{"priority":2,"attempts":1,"delay":9,"timestamp":1}`, "priority": "2"}, losses: []string{"order"},
		},
		{
			name: "an exponential backoff waits other times", state: Waiting,
			fields: map[string]string{"opts": `{"backoff":{"type":"exponential","delay":5}}`}, losses: []string{"opts.backoff"}, undo: true,
		},
		{
			name: "a backoff of its own type needs a strategy", state: Waiting,
			fields: map[string]string{"opts": `{"backoff":{"type":"mine"}}`}, losses: []string{"opts.backoff.type"}, undo: true,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.fields["timestamp"] = "1795380456459"
			_, got, problem := convert(Bull, BullMQ, "1", c.state, "", bullView(c.fields), "")
			if problem != nil {
				t.Fatal(problem.Message)
			}
			edits := map[string]string{}
			for i := 0; i < len(got.hset); i += 2 {
				edits[got.hset[i]] = got.hset[i+1]
			}
			for _, f := range got.hdel {
				edits[f] = ""
			}
			if c.want == nil {
				c.want = map[string]string{}
			}
			if !reflect.DeepEqual(edits, c.want) {
				t.Errorf("edits = %v, want %v", edits, c.want)
			}
			var losses []string
			for _, l := range got.losses {
				losses = append(losses, l.Field)
			}
			if !slices.Equal(losses, c.losses) {
				t.Errorf("losses = %v, want %v", losses, c.losses)
			}
			if (got.undo != "") != c.undo {
				t.Errorf("undo line %q, want one: %v", got.undo, c.undo)
			}
		})
	}
}

func TestTargetIDs(t *testing.T) {
	for _, c := range []struct {
		to       Layout
		id, want string
	}{
		{BullMQ, "1", "1"},
		{BullMQ, "user:42", "user:42"},
		{BullMQ, "0:zero", "x0:zero"},
		{BullMQ, "events", "xevents"},
		{Bull, "events", "events"},
		{Bull, "priority", "xpriority"},
		{Bull, "0:zero", "0:zero"},
	} {
		if got := targetID(c.to, c.id); got != c.want {
			t.Errorf("targetID(%s, %q) = %q, want %q", c.to, c.id, got, c.want)
		}
	}
}

func TestOnlyIDsThatTheCounterCanReachRaiseIt(t *testing.T) {
	for id, want := range map[string]int64{
		"7": 7, "0": 0, "99999999999999": 99999999999999, "": -1, "07": -1, "1e3": -1, "-1": -1, "100000000000000": -1,
	} {
		got, ok := digits(id)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("digits(%q) = %d, want %d", id, got, want)
		}
	}
}

func TestBullRepeatIDsAreRecomputed(t *testing.T) {
	const key = "named:nightly::Europe/Berlin:0 3 * * *"
	r := Repeat{Name: "named", JobID: "nightly", TZ: "Europe/Berlin", Pattern: "0 3 * * *"}
	if got := repeatKey("named", r); got != key {
		t.Errorf("repeatKey = %q, want %q", got, key)
	}
	if got, want := occurrenceHash("named", "nightly", key), "0f662eecc3eb40666974df91b5f2d6cc"; got != want {
		t.Errorf("occurrenceHash = %q, want %q", got, want)
	}
	if want := "repeat:0f662eecc3eb40666974df91b5f2d6cc:1795399200000"; !slices.Contains(pendingIDs(key, 1795399200000), want) {
		t.Errorf("pendingIDs(%q) misses %q", key, want)
	}
	if want := "repeat:f889e262642b959291a3749b21124090:1795381200000"; !slices.Contains(pendingIDs("every:::3600000", 1795381200000), want) {
		t.Errorf("pendingIDs(every) misses %q", want)
	}
}

func TestDatesOfRepeatables(t *testing.T) {
	for raw, want := range map[string]string{
		`{"endDate":"2026-12-22T20:47:36.522Z"}`:      "1797972456522 true",
		`{"endDate":"2026-12-22T21:47:36.522+01:00"}`: "1797972456522 true",
		`{"endDate":1797972456522}`:                   "1797972456522 true",
		`{"endDate":"2026-12-22"}`:                    "1797897600000 true",
		`{}`:                                          "0 true",
		`{"endDate":null}`:                            "0 true",
		`{"endDate":"next week"}`:                     "0 false",
		`{"endDate":"2026-12-22T20:47:36"}`:           "0 false", // local time of a process that is gone
	} {
		o, err := parseObject(raw)
		if err != nil {
			t.Fatal(err)
		}
		ms, ok := dateMS(o, "endDate")
		if got := fmt.Sprint(ms, ok); got != want {
			t.Errorf("dateMS(%s) = %s, want %s", raw, got, want)
		}
	}
}

func FuzzParseObject(f *testing.F) {
	f.Add(`{"a":1,"b":{"c":[1,"}",{}]},"\u0061":2, "d" : null}`)
	f.Add(`{}`)
	f.Add(` { "x" : "\"" } `)
	f.Fuzz(func(t *testing.T, s string) {
		o, err := parseObject(s)
		if err != nil {
			return
		}
		var want, got any
		if err := json.Unmarshal([]byte(s), &want); err != nil {
			t.Fatalf("accepted %q: %v", s, err)
		}
		if err := json.Unmarshal([]byte(o.String()), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q came back as %q, %v", s, o.String(), err)
		}
		again := o.clone().with("new", "1").without("new").String()
		if _, had := o.get("new"); !had && again != o.String() {
			t.Fatalf("%q with and without a member is %q", o.String(), again)
		}
	})
}

func FuzzConvertThereAndBack(f *testing.F) {
	f.Add(`{"attempts":1,"delay":0,"timestamp":1795380456459}`, "0", "", "", "", "", uint8(0))
	f.Add(`{"timeout":1,"debounce":{"id":"a","ttl":5},"priority":5000000,"backoff":{"type":"exponential","delay":1}}`,
		"5000000", "2", "1", "1795380456459", "1795380456459", uint8(3))
	f.Add(`{"repeat":{"every":5,"key":"a:::5"},"attempts":0}`, "1.5", "0", "0", "", "1", uint8(4))
	states := []State{Waiting, Paused, Active, Delayed, Completed, Failed}
	f.Fuzz(func(t *testing.T, opts, priority, made, stalled, processed, retried string, state uint8) {
		st := states[int(state)%len(states)]
		fields := map[string]string{"opts": opts, "timestamp": "1795380456459"}
		for name, val := range map[string]string{
			"priority": priority, "attemptsMade": made, "stalledCounter": stalled, "processedOn": processed, "retriedOn": retried,
		} {
			if val != "" {
				fields[name] = val
			}
		}
		v := bullView(fields)
		_, there, problem := convert(Bull, BullMQ, "1", st, "", v, "")
		if problem != nil {
			return
		}
		var seen view
		for _, f := range bullMQFields(false) {
			if there.after.has[f] {
				seen.set(f, there.after.val[f])
			}
		}
		if seen.has[fieldAttemptsMade] {
			t.Fatalf("attemptsMade survived: %+v", there.after)
		}
		_, back, problem := convert(BullMQ, Bull, "1", st, "", seen, there.undo)
		if problem != nil {
			t.Fatalf("the way back: %s", problem.Message)
		}
		for _, f := range bullFields(true) {
			if back.after.has[f] != v.has[f] || back.after.val[f] != v.val[f] {
				t.Errorf("field %s: was %q (%v), came back as %q (%v); undo %s", f, v.val[f], v.has[f], back.after.val[f], back.after.has[f], there.undo)
			}
		}
		if !json.Valid([]byte(there.after.val[fieldOpts])) {
			t.Errorf("opts became %q", there.after.val[fieldOpts])
		}
	})
}

func FuzzParseSeen(f *testing.F) {
	f.Add("")
	f.Add(seenError + "WRONGTYPE")
	f.Add(strings.Repeat(seenSeparator, 6))
	f.Fuzz(func(_ *testing.T, seen string) {
		v, problem := parseSeen(seen, bullFields(false))
		if problem == nil {
			_, _, _ = convert(Bull, BullMQ, "1", Waiting, "", v, "")
		}
	})
}
