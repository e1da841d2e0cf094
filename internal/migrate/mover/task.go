package mover

import (
	"encoding/json"
	"errors"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// A task is what asynq 0.26 keeps in the field msg of a job's hash, less its payload, which is never
// read: it is put between the two parts of the message by the script. Times are Unix seconds. The
// numbers are those of asynq's own definition.
type task struct {
	kind        string // 1
	id          string // 3
	queue       string // 4: the band
	retry       int64  // 5: attempts after the first
	retried     int64  // 6
	failure     string // 7
	timeout     int64  // 8: seconds
	deadline    int64  // 9
	uniqueKey   string // 10
	failedAt    int64  // 11
	retention   int64  // 12: seconds
	completedAt int64  // 13
	envelope    string // 15: the header that redisopt's own queues keep
	otherHeader bool   // 15: any other
}

// envelopeHeader is the name of the header in which redisopt's own queues keep what asynq cannot.
const envelopeHeader = "redisopt"

// envelopeSchema is the schema number of the envelopes that are written and read here.
const envelopeSchema = 1

// An envelope is that header's value, as redisopt's own queues write it. Times are Unix milliseconds.
type envelope struct {
	Schema   int      `json:"schema"`
	Queue    string   `json:"queue"`
	At       int64    `json:"at"`
	Due      int64    `json:"due,omitempty"`
	Timeout  int64    `json:"timeout,omitempty"` // milliseconds
	Deadline int64    `json:"deadline,omitempty"`
	Backoff  *backoff `json:"backoff,omitempty"`
	Schedule string   `json:"schedule,omitempty"`
	Batch    string   `json:"batch,omitempty"`
}

// A backoff is the pause between attempts. Delay and Max are nanoseconds.
type backoff struct {
	Kind   string  `json:"kind,omitempty"`
	Delay  int64   `json:"delay,omitempty"`
	Max    int64   `json:"max,omitempty"`
	Jitter float64 `json:"jitter,omitempty"`
}

// head is the message before the payload.
func (t *task) head() string { return string(appendText(nil, 1, t.kind)) }

// tail is the message behind the id, which follows the payload.
func (t *task) tail() string {
	b := make([]byte, 0, 160)
	count := func(number protowire.Number, n int64) {
		if n != 0 {
			b = protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), uint64(n)) //nolint:gosec // the wire keeps negative numbers so
		}
	}
	b = appendText(b, 4, t.queue)
	count(5, t.retry)
	count(6, t.retried)
	b = appendText(b, 7, t.failure)
	count(8, t.timeout)
	count(9, t.deadline)
	b = appendText(b, 10, t.uniqueKey)
	count(11, t.failedAt)
	count(12, t.retention)
	count(13, t.completedAt)
	entry := appendText(appendText(nil, 1, envelopeHeader), 2, t.envelope)
	return string(protowire.AppendBytes(protowire.AppendTag(b, 15, protowire.BytesType), entry))
}

func appendText(b []byte, number protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), s)
}

var errMessage = errors.New("it is no message of asynq")

// parseTask reads a message whose payload was cut out. Fields it does not know are skipped.
func parseTask(raw string) (task, error) {
	var t task
	texts := map[protowire.Number]*string{1: &t.kind, 3: &t.id, 4: &t.queue, 7: &t.failure, 10: &t.uniqueKey}
	counts := map[protowire.Number]*int64{
		5: &t.retry, 6: &t.retried, 8: &t.timeout, 9: &t.deadline, 11: &t.failedAt, 12: &t.retention, 13: &t.completedAt,
	}
	err := eachField([]byte(raw), func(number protowire.Number, text []byte, n uint64) error {
		if into, ok := texts[number]; ok {
			*into = string(text)
		}
		if into, ok := counts[number]; ok {
			*into = int64(n) //nolint:gosec // as above
		}
		if number != 15 {
			return nil
		}
		var key, value string
		pair := map[protowire.Number]*string{1: &key, 2: &value}
		err := eachField(text, func(number protowire.Number, text []byte, _ uint64) error {
			if into, ok := pair[number]; ok {
				*into = string(text)
			}
			return nil
		})
		if key == envelopeHeader {
			t.envelope = value
		} else {
			t.otherHeader = true
		}
		return err
	})
	if err == nil && t.id == "" {
		err = errMessage
	}
	return t, err
}

// eachField calls f with the bytes or the number of each field.
func eachField(raw []byte, f func(number protowire.Number, text []byte, n uint64) error) error {
	for len(raw) > 0 {
		number, wire, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return errMessage
		}
		raw = raw[n:]
		size := protowire.ConsumeFieldValue(number, wire, raw)
		if size < 0 {
			return errMessage
		}
		var text []byte
		var count uint64
		switch wire {
		case protowire.BytesType:
			text, _ = protowire.ConsumeBytes(raw)
		case protowire.VarintType:
			count, _ = protowire.ConsumeVarint(raw)
		case protowire.Fixed32Type, protowire.Fixed64Type, protowire.StartGroupType, protowire.EndGroupType:
		}
		if err := f(number, text, count); err != nil {
			return err
		}
		raw = raw[size:]
	}
	return nil
}

// unseal reads t's envelope. A task without one has the zero envelope.
func (t *task) unseal() (envelope, *Problem) {
	var v envelope
	if t.envelope == "" {
		return v, nil
	}
	if err := json.Unmarshal([]byte(t.envelope), &v); err != nil || v.Schema < 1 {
		return v, &Problem{Rule: "malformed-field", Message: "the header redisopt of its message is damaged"}
	}
	if v.Schema > envelopeSchema {
		return v, &Problem{Rule: "malformed-field", Message: "a newer redisopt wrote its message: use that one"}
	}
	return v, nil
}

// unescape undoes what the script does to a message that it shows: the bytes that separate fields, and
// the escape itself, are an escape and the byte plus 64.
func unescape(s string) string {
	if !strings.Contains(s, "\x1b") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\x1b' && i+1 < len(s) {
			i++
			b.WriteByte(s[i] - 64)
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// escape is what the script does to a message before it shows it; see unescape.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; c {
		case '\x1b', '\x1d', '\x1e', '\x1f':
			b.WriteByte('\x1b')
			b.WriteByte(c + 64)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// withoutPayload is a message less its payload, as the script shows it; what is none stays as it is.
func withoutPayload(raw string) string {
	rest := make([]byte, 0, len(raw))
	left := []byte(raw)
	for len(left) > 0 {
		number, wire, n := protowire.ConsumeTag(left)
		if n < 0 {
			return raw
		}
		size := protowire.ConsumeFieldValue(number, wire, left[n:])
		if size < 0 {
			return raw
		}
		if number != 2 || wire != protowire.BytesType {
			rest = append(rest, left[:n+size]...)
		}
		left = left[n+size:]
	}
	return string(rest)
}
