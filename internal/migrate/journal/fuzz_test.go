package journal

import (
	"bytes"
	"testing"
	"time"
)

var fixedTime = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// FuzzParse: no line makes it panic, and a line it accepts is one whose every byte counts.
func FuzzParse(f *testing.F) {
	var prev *Entry
	for _, rec := range script {
		e, line, err := seal(prev, rec, fixedTime)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
		prev = &e
	}
	f.Add([]byte(`{"schema":2}`))
	f.Add([]byte(`,"hash":""}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := parse(line)
		if err != nil {
			return
		}
		if e.Schema < 1 || e.Schema > Schema || len(e.Hash) != hashLen {
			t.Fatalf("parse accepted %+v", e)
		}
		for _, i := range []int{0, len(line) / 2, len(line) - 1} {
			bad := bytes.Clone(line)
			bad[i] ^= 1
			if _, err := parse(bad); err == nil {
				t.Fatalf("byte %d flipped: accepted", i)
			}
		}
	})
}

// FuzzReadLines: whatever a file holds, reading it yields a prefix of whole lines or an error.
func FuzzReadLines(f *testing.F) {
	_, line, err := seal(nil, script[0], fixedTime)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(line, '\n'))
	f.Add(append(bytes.Clone(line), "\n{"...))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		entries, lines, good, total, err := readLines("j", bytes.NewReader(content))
		if err != nil {
			return
		}
		if total != int64(len(content)) || good > total || len(entries) != len(lines) {
			t.Fatalf("good %d of %d, %d entries in %d lines", good, total, len(entries), len(lines))
		}
		if got := bytes.Count(content[:good], []byte{'\n'}); got != len(lines) {
			t.Fatalf("%d lines in the durable part, want %d", got, len(lines))
		}
	})
}
