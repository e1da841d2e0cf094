package cause

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"time"
	"unicode"
)

const (
	maxLine  = 64 << 10
	maxKinds = 200  // texts told apart
	maxTimes = 5000 // errors whose times are kept
	maxText  = 300
)

// A Text is one kind of error text, with numbers and addresses taken as the same.
type Text struct {
	Text  string `json:"text"` // the first one
	Count int64  `json:"count"`
	Sign  string `json:"sign,omitempty"` // what it shows; empty for a text that is none of a connection
}

// A Log is the errors of an application.
type Log struct {
	Lines   int64     `json:"lines"`
	Errors  int64     `json:"errors"` // lines with a text of a connection
	Other   int64     `json:"other"`  // lines with any other text
	Texts   []Text    `json:"texts"`
	First   time.Time `json:"first,omitzero"`
	Last    time.Time `json:"last,omitzero"`
	Missing []string  `json:"-"`

	bySign map[string]int64 // errors
	times  []time.Time
	plain  bool // an address with redis:// was seen
	secure bool // one with rediss:// was
}

// ReadLog reads the lines of a log: text, or a JSON object a line, of which msg, message, error, err, code
// and stack are read and time, timestamp, ts and @timestamp. It keeps a bounded part whatever the length;
// of a line longer than 64 KiB the rest is left out.
func ReadLog(r io.Reader) (*Log, error) {
	l := &Log{Texts: []Text{}, bySign: map[string]int64{}}
	all := signs()
	at := map[string]int{}
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, long, err := in.ReadLine()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		text := strings.ToValidUTF8(string(line), "\uFFFD")
		for long && err == nil {
			_, long, err = in.ReadLine()
		}
		if strings.TrimSpace(text) == "" {
			continue
		}
		l.Lines++
		l.line(all, at, text)
	}
	if len(at) >= maxKinds {
		l.Missing = append(l.Missing, "more kinds of texts than 200: the rarest are not listed")
	}
	return l, nil
}

func (l *Log) line(all []sign, at map[string]int, line string) {
	text, when := understand(line)
	l.plain = l.plain || strings.Contains(text, "redis://")
	l.secure = l.secure || strings.Contains(text, "rediss://")
	s := signOf(all, text)
	name := ""
	if s == nil {
		l.Other++
	} else {
		l.Errors++
		name = s.name
		l.bySign[name]++
		l.time(when)
	}
	key := normal(text)
	i, known := at[key]
	if !known {
		if len(at) >= maxKinds {
			return
		}
		i = len(l.Texts)
		at[key] = i
		l.Texts = append(l.Texts, Text{Text: masked(cutText(strings.TrimSpace(text))), Sign: name})
	}
	l.Texts[i].Count++
}

func (l *Log) time(when time.Time) {
	if when.IsZero() {
		return
	}
	if l.First.IsZero() || when.Before(l.First) {
		l.First = when
	}
	if when.After(l.Last) {
		l.Last = when
	}
	if len(l.times) < maxTimes {
		l.times = append(l.times, when)
	}
}

// understand is the text of a line and when it was written, zero where the line does not say.
func understand(line string) (text string, when time.Time) {
	trimmed := strings.TrimSpace(line)
	var object map[string]json.RawMessage
	if strings.HasPrefix(trimmed, "{") && json.Unmarshal([]byte(trimmed), &object) == nil {
		var parts []string
		for _, name := range []string{"msg", "message", "error", "err", "code", "reason", "stack"} {
			parts = append(parts, words(object[name])...)
		}
		for _, name := range []string{"time", "timestamp", "ts", "@timestamp", "date"} {
			if t := timeOf(object[name]); !t.IsZero() {
				return strings.Join(parts, " "), t
			}
		}
		return strings.Join(parts, " "), time.Time{}
	}
	return trimmed, timeIn(trimmed)
}

// words are the texts of a JSON value: a string, or message, code and stack of an object.
func words(raw json.RawMessage) []string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		first, _, _ := strings.Cut(text, "\n")
		return []string{first}
	}
	var inner map[string]json.RawMessage
	var out []string
	if json.Unmarshal(raw, &inner) == nil {
		for _, name := range []string{"message", "msg", "code"} {
			if json.Unmarshal(inner[name], &text) == nil {
				out = append(out, text)
			}
		}
	}
	return out
}

// timeOf reads RFC 3339, or seconds or milliseconds since 1970.
func timeOf(raw json.RawMessage) time.Time {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return timeIn(text)
	}
	var n float64
	if json.Unmarshal(raw, &n) != nil || math.IsNaN(n) || n < 1e8 || n > 1e14 {
		return time.Time{}
	}
	if n < 1e11 {
		n *= 1000
	}
	return time.UnixMilli(int64(n)).UTC()
}

// timeIn reads a time at the beginning of a line, in brackets or not.
func timeIn(line string) time.Time {
	line = strings.TrimLeft(line, "[(\"")
	first, rest, _ := strings.Cut(line, " ")
	first = strings.TrimRight(first, "]),\":")
	if t, err := time.Parse(time.RFC3339, first); err == nil {
		return t.UTC()
	}
	second, _, _ := strings.Cut(rest, " ")
	second = strings.Replace(strings.TrimRight(second, "]),\":"), ",", ".", 1)
	for _, layout := range []string{"2006-01-02 15:04:05", "2006/01/02 15:04:05"} {
		if t, err := time.Parse(layout, first+" "+second); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// normal is text without what differs from one error to the next of its kind.
func normal(text string) string {
	var b strings.Builder
	last := rune(0)
	for _, c := range text {
		if unicode.IsDigit(c) {
			c = '0'
			if last == '0' {
				continue
			}
		}
		last = c
		b.WriteRune(c)
		if b.Len() >= maxText {
			break
		}
	}
	return b.String()
}

func cutText(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}

// masked is text without the password of a URL in it.
func masked(text string) string {
	var out strings.Builder
	for {
		before, after, ok := strings.Cut(text, "://")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		out.WriteString("://")
		text = after
		end := strings.IndexFunc(after, func(r rune) bool { return unicode.IsSpace(r) || r == '/' || r == '"' || r == '\'' })
		if end < 0 {
			end = len(after)
		}
		if i := strings.LastIndexByte(after[:end], '@'); i >= 0 {
			out.WriteString("***")
			text = after[i:]
		}
	}
}
