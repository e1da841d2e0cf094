package queue

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
)

// A message is a task as asynq 0.26 keeps it in the field "msg" of a task's hash: a protocol buffer, whose
// fields are these. Times are Unix seconds.
type message struct {
	Type         string            // 1
	Payload      []byte            // 2
	ID           string            // 3
	Queue        string            // 4: the band
	Retry        int64             // 5: attempts after the first
	Retried      int64             // 6
	Error        string            // 7
	Timeout      int64             // 8: seconds
	Deadline     int64             // 9
	UniqueKey    string            // 10
	LastFailedAt int64             // 11
	Retention    int64             // 12: seconds
	CompletedAt  int64             // 13
	Group        string            // 14
	Headers      map[string]string // 15
}

// Kinds of fields on the wire.
const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

var errMessage = errors.New("it is no task of asynq")

// encode writes the fields in the order of their numbers, headers by name, so that equal messages are
// equal bytes.
func (m message) encode() []byte {
	b := make([]byte, 0, 128+len(m.Payload))
	bytes := func(n int, v []byte) {
		if len(v) == 0 {
			return
		}
		b = binary.AppendUvarint(b, uint64(n)<<3|wireBytes) //nolint:gosec // field numbers are small
		b = binary.AppendUvarint(b, uint64(len(v)))
		b = append(b, v...)
	}
	number := func(n int, v int64) {
		if v == 0 {
			return
		}
		b = binary.AppendUvarint(b, uint64(n)<<3|wireVarint) //nolint:gosec // field numbers are small
		b = binary.AppendUvarint(b, uint64(v))               //nolint:gosec // negative numbers are kept as two's complement
	}
	bytes(1, []byte(m.Type))
	bytes(2, m.Payload)
	bytes(3, []byte(m.ID))
	bytes(4, []byte(m.Queue))
	number(5, m.Retry)
	number(6, m.Retried)
	bytes(7, []byte(m.Error))
	number(8, m.Timeout)
	number(9, m.Deadline)
	bytes(10, []byte(m.UniqueKey))
	number(11, m.LastFailedAt)
	number(12, m.Retention)
	number(13, m.CompletedAt)
	bytes(14, []byte(m.Group))
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		var entry []byte
		for i, part := range []string{name, m.Headers[name]} {
			entry = binary.AppendUvarint(entry, uint64(i+1)<<3|wireBytes) //nolint:gosec // 1 or 2
			entry = binary.AppendUvarint(entry, uint64(len(part)))
			entry = append(entry, part...)
		}
		b = binary.AppendUvarint(b, 15<<3|wireBytes)
		b = binary.AppendUvarint(b, uint64(len(entry)))
		b = append(b, entry...)
	}
	return b
}

// decode reads a message; fields it does not know are skipped.
func decode(b []byte) (message, error) {
	m := message{Headers: map[string]string{}}
	err := fields(b, func(n int, num int64, text []byte) error {
		switch n {
		case 1:
			m.Type = string(text)
		case 2:
			m.Payload = slices.Clone(text)
		case 3:
			m.ID = string(text)
		case 4:
			m.Queue = string(text)
		case 5:
			m.Retry = num
		case 6:
			m.Retried = num
		case 7:
			m.Error = string(text)
		case 8:
			m.Timeout = num
		case 9:
			m.Deadline = num
		case 10:
			m.UniqueKey = string(text)
		case 11:
			m.LastFailedAt = num
		case 12:
			m.Retention = num
		case 13:
			m.CompletedAt = num
		case 14:
			m.Group = string(text)
		case 15:
			var name, value string
			err := fields(text, func(n int, _ int64, text []byte) error {
				switch n {
				case 1:
					name = string(text)
				case 2:
					value = string(text)
				}
				return nil
			})
			if err != nil {
				return err
			}
			m.Headers[name] = value
		}
		return nil
	})
	if err == nil && m.ID == "" {
		err = errMessage
	}
	return m, err
}

// fields calls f for each field, with its number or its bytes.
func fields(b []byte, f func(n int, number int64, text []byte) error) error {
	for len(b) > 0 {
		tag, used := binary.Uvarint(b)
		if used <= 0 || tag>>3 == 0 || tag>>3 > 1<<28 {
			return errMessage
		}
		b = b[used:]
		var (
			number uint64
			text   []byte
		)
		switch tag & 7 {
		case wireVarint:
			if number, used = binary.Uvarint(b); used <= 0 {
				return errMessage
			}
			b = b[used:]
		case wireBytes:
			size, used := binary.Uvarint(b)
			if used <= 0 || size > uint64(len(b)-used) {
				return errMessage
			}
			text, b = b[used:used+int(size)], b[used+int(size):] //nolint:gosec // it fits into b
		case wire32, wire64:
			size := 4
			if tag&7 == wire64 {
				size = 8
			}
			if len(b) < size {
				return errMessage
			}
			b = b[size:]
		default:
			return errMessage
		}
		if err := f(int(tag>>3), int64(number), text); err != nil { //nolint:gosec // field numbers are small, and numbers two's complement
			return err
		}
	}
	return nil
}
