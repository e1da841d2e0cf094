package tend

import (
	"errors"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// A message is what asynq stores of a task. The numbers are those of its asynq.proto.
type message struct {
	kind      string // 1
	payload   []byte // 2
	id        string // 3
	queue     string // 4
	retry     int64  // 5: how often it may be tried again
	retried   int64  // 6: how often it was
	errorMsg  string // 7
	timeout   int64  // 8, seconds
	deadline  int64  // 9, Unix seconds
	uniqueKey string // 10
	failedAt  int64  // 11, Unix seconds
	retention int64  // 12, seconds
	doneAt    int64  // 13, Unix seconds
	groupKey  string // 14
	headers   map[string]string
}

var errMessage = errors.New("not a message of asynq")

// headersField is a map: each entry is a message of a key (1) and a value (2).
const headersField = 15

// decodeMessage reads what asynq stored. Fields it does not know are skipped.
func decodeMessage(raw []byte) (message, error) {
	var m message
	texts := map[protowire.Number]*string{1: &m.kind, 3: &m.id, 4: &m.queue, 7: &m.errorMsg, 10: &m.uniqueKey, 14: &m.groupKey}
	counts := map[protowire.Number]*int64{5: &m.retry, 6: &m.retried, 8: &m.timeout, 9: &m.deadline, 11: &m.failedAt, 12: &m.retention, 13: &m.doneAt}
	for len(raw) > 0 {
		number, wire, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return message{}, errMessage
		}
		raw = raw[n:]
		size := protowire.ConsumeFieldValue(number, wire, raw)
		if size < 0 {
			return message{}, errMessage
		}
		switch wire {
		case protowire.BytesType:
			value, _ := protowire.ConsumeBytes(raw)
			if into, ok := texts[number]; ok {
				*into = string(value)
			}
			if number == 2 {
				m.payload = slices.Clone(value)
			}
			if number == headersField {
				key, text, err := decodeHeader(value)
				if err != nil {
					return message{}, err
				}
				if m.headers == nil {
					m.headers = map[string]string{}
				}
				m.headers[key] = text
			}
		case protowire.VarintType:
			value, _ := protowire.ConsumeVarint(raw)
			if into, ok := counts[number]; ok {
				*into = int64(value) //nolint:gosec // the wire keeps negative numbers so
			}
		case protowire.Fixed32Type, protowire.Fixed64Type, protowire.StartGroupType, protowire.EndGroupType:
		}
		raw = raw[size:]
	}
	return m, nil
}

func decodeHeader(raw []byte) (key, value string, err error) {
	into := map[protowire.Number]*string{1: &key, 2: &value}
	for len(raw) > 0 {
		number, wire, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return "", "", errMessage
		}
		raw = raw[n:]
		size := protowire.ConsumeFieldValue(number, wire, raw)
		if size < 0 {
			return "", "", errMessage
		}
		if at, ok := into[number]; ok && wire == protowire.BytesType {
			text, _ := protowire.ConsumeBytes(raw)
			*at = string(text)
		}
		raw = raw[size:]
	}
	return key, value, nil
}

// encode is m as asynq stores it: fields in the order of their numbers, none that is zero.
func (m *message) encode() []byte {
	var b []byte
	text := func(number protowire.Number, s string) {
		if s != "" {
			b = protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), s)
		}
	}
	count := func(number protowire.Number, n int64) {
		if n != 0 {
			b = protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), uint64(n)) //nolint:gosec // as above
		}
	}
	text(1, m.kind)
	text(2, string(m.payload))
	text(3, m.id)
	text(4, m.queue)
	count(5, m.retry)
	count(6, m.retried)
	text(7, m.errorMsg)
	count(8, m.timeout)
	count(9, m.deadline)
	text(10, m.uniqueKey)
	count(11, m.failedAt)
	count(12, m.retention)
	count(13, m.doneAt)
	text(14, m.groupKey)
	for _, key := range slices.Sorted(maps.Keys(m.headers)) {
		entry := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), key)
		entry = protowire.AppendString(protowire.AppendTag(entry, 2, protowire.BytesType), m.headers[key])
		b = protowire.AppendBytes(protowire.AppendTag(b, headersField, protowire.BytesType), entry)
	}
	return b
}
