package cache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

// A Codec says what the bytes of a value mean.
type Codec string

// The codecs. Raw, JSON and MsgPack are written in an envelope that names them, so that a reader never
// has to guess and a namespace may change its codec while old entries live on.
//
// IORedisJSON is for sharing keys with code that does JSON.parse(await redis.get(key)): keys are spelled
// without prefix, and values are plain JSON without an envelope. It has no tags, compression, encryption,
// stale time or negative entries. Reading there is defined for whatever others wrote: a JSON document is
// that document, any other text is the JSON string of that text (with Result.Foreign set), an envelope
// is what it says.
const (
	Raw         Codec = "raw"          // bytes, as they are
	JSON        Codec = "json"         // one JSON document
	MsgPack     Codec = "msgpack"      // one MessagePack value
	IORedisJSON Codec = "ioredis-json" // one JSON document, without an envelope
)

// Codecs are all codecs.
func Codecs() []Codec { return []Codec{Raw, JSON, MsgPack, IORedisJSON} }

func (c Codec) known() bool {
	switch c {
	case Raw, JSON, MsgPack, IORedisJSON:
		return true
	}
	return false
}

// check says whether value is what the codec promises.
func (c Codec) check(value []byte) error {
	switch c {
	case JSON, IORedisJSON:
		if !utf8.Valid(value) || !json.Valid(value) {
			return fmt.Errorf("%w: the value is not one JSON document", ErrValue)
		}
	case MsgPack:
		if err := skipMsgPack(value); err != nil {
			return fmt.Errorf("%w: the value is not one MessagePack value: %w", ErrValue, err)
		}
	case Raw:
	}
	return nil
}

// skipMsgPack reads one value and requires that it is all there is.
func skipMsgPack(value []byte) error {
	r := bytes.NewReader(value)
	if err := msgpack.NewDecoder(r).Skip(); err != nil {
		return err
	}
	if r.Len() > 0 {
		return fmt.Errorf("%d bytes after its end", r.Len())
	}
	return nil
}

// Encode makes the bytes that Set takes from a Go value. Raw takes []byte and string only.
func (c Codec) Encode(v any) ([]byte, error) {
	switch c {
	case JSON, IORedisJSON:
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrValue, err)
		}
		return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
	case MsgPack:
		b, err := msgpack.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrValue, err)
		}
		return b, nil
	case Raw:
		switch v := v.(type) {
		case []byte:
			return v, nil
		case string:
			return []byte(v), nil
		}
		return nil, fmt.Errorf("%w: codec raw takes bytes or a string, not %T", ErrValue, v)
	}
	return nil, fmt.Errorf("%w: unknown codec %q", ErrValue, c)
}

// Decode turns the value of a hit into a Go value. Numbers that land in an any keep all their digits as
// json.Number. It returns ErrNotFound for a negative hit.
func (r Result) Decode(into any) error {
	if r.Negative {
		return ErrNotFound
	}
	if !r.Hit && r.Source != FromLoader {
		return errors.New("decode a miss: look at Hit first")
	}
	switch r.Codec {
	case JSON, IORedisJSON:
		dec := json.NewDecoder(bytes.NewReader(r.Value))
		dec.UseNumber()
		if err := dec.Decode(into); err != nil {
			return fmt.Errorf("%w: %w", ErrValue, err)
		}
		return nil
	case MsgPack:
		if err := msgpack.Unmarshal(r.Value, into); err != nil {
			return fmt.Errorf("%w: %w", ErrValue, err)
		}
		return nil
	case Raw:
		switch into := into.(type) {
		case *[]byte:
			*into = bytes.Clone(r.Value)
			return nil
		case *string:
			*into = string(r.Value)
			return nil
		}
		return fmt.Errorf("%w: codec raw fills bytes or a string, not %T", ErrValue, into)
	}
	return fmt.Errorf("%w: unknown codec %q", ErrValue, r.Codec)
}
