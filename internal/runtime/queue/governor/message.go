package governor

import "encoding/binary"

// taskIDField is the number of the field that holds the id in asynq's encoding of a job, which is a
// protocol buffer.
const taskIDField = 3

// The kinds of fields.
const (
	varintField = 0
	fixed64     = 1
	bytesField  = 2
	fixed32     = 5
)

// taskID is the id of an encoded job; empty when it is not one.
func taskID(msg []byte) string {
	for len(msg) > 0 {
		tag, n := binary.Uvarint(msg)
		if n <= 0 {
			return ""
		}
		msg = msg[n:]
		size := uint64(0)
		switch tag & 7 {
		case varintField:
			if _, n = binary.Uvarint(msg); n <= 0 {
				return ""
			}
			size = uint64(n)
		case fixed64:
			size = 8
		case fixed32:
			size = 4
		case bytesField:
			length, n := binary.Uvarint(msg)
			if n <= 0 {
				return ""
			}
			msg, size = msg[n:], length
		default:
			return ""
		}
		if size > uint64(len(msg)) {
			return ""
		}
		if tag == taskIDField<<3|bytesField {
			return string(msg[:size])
		}
		msg = msg[size:]
	}
	return ""
}
