package rest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
)

// An item is one result in JSON: one of the two is set.
type item struct {
	Result json.RawMessage `json:"result"`
	Error  *string         `json:"error"`
}

var (
	errNoResult  = errors.New("an answer has neither a result nor an error")
	errNotBase64 = errors.New("a string in the reply is not base64, which was asked for")
	errTooDeep   = errors.New("the reply is nested too deeply")
	errMoreText  = errors.New("the reply goes on after its end")
)

// errorText is the text of {"error": …}; false when body is something else.
func errorText(body []byte) (string, bool) {
	var one item
	if err := json.Unmarshal(body, &one); err != nil || one.Error == nil {
		return "", false
	}
	return *one.Error, true
}

// appendResults appends the answers in body, an array of items, as n replies in RESP.
func appendResults(dst, body []byte, n int, encoded bool) ([]byte, error) {
	var items []item
	if err := json.Unmarshal(body, &items); err != nil {
		return dst, fmt.Errorf("the reply is not an array of results: %w", err)
	}
	if len(items) != n {
		return dst, fmt.Errorf("the reply has %d results, want %d", len(items), n)
	}
	for _, it := range items {
		var err error
		if dst, err = appendResult(dst, it, encoded); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func appendResult(dst []byte, it item, encoded bool) ([]byte, error) {
	switch {
	case it.Error != nil:
		return appendError(dst, *it.Error), nil
	case it.Result == nil:
		return dst, errNoResult
	}
	d := json.NewDecoder(bytes.NewReader(it.Result))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return dst, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return dst, errMoreText
	}
	return appendValue(dst, v, encoded, 0)
}

// appendValue appends a JSON value as a reply in RESP. Only the status OK is told from a string, as
// strings are base64 and it is not.
func appendValue(dst []byte, v any, encoded bool, depth int) ([]byte, error) {
	if depth > maxDepth {
		return dst, errTooDeep
	}
	switch v := v.(type) {
	case nil:
		return append(dst, "$-1\r\n"...), nil
	case json.Number:
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return append(strconv.AppendInt(append(dst, ':'), n, 10), "\r\n"...), nil
		}
		return appendBulk(dst, []byte(v)), nil
	case string:
		if v == "OK" {
			return append(dst, "+OK\r\n"...), nil
		}
		if !encoded {
			return appendBulk(dst, []byte(v)), nil
		}
		raw, err := base64.StdEncoding.DecodeString(v)
		if err != nil {
			return dst, errNotBase64
		}
		return appendBulk(dst, raw), nil
	case bool:
		if v {
			return append(dst, ":1\r\n"...), nil
		}
		return append(dst, ":0\r\n"...), nil
	case []any:
		dst = append(strconv.AppendInt(append(dst, '*'), int64(len(v)), 10), "\r\n"...)
		for _, e := range v {
			var err error
			if dst, err = appendValue(dst, e, encoded, depth+1); err != nil {
				return dst, err
			}
		}
		return dst, nil
	case map[string]any:
		return appendMap(dst, v, encoded, depth)
	}
	return dst, fmt.Errorf("a %T is no reply of a Redis", v)
}

// appendMap appends an object as the keys and values in turn, which is how protocol 2 has a map. Some
// endpoints answer HGETALL so.
func appendMap(dst []byte, m map[string]any, encoded bool, depth int) ([]byte, error) {
	dst = append(strconv.AppendInt(append(dst, '*'), int64(2*len(m)), 10), "\r\n"...)
	for _, k := range slices.Sorted(maps.Keys(m)) {
		var err error
		if dst, err = appendValue(dst, k, encoded, depth+1); err != nil {
			return dst, err
		}
		if dst, err = appendValue(dst, m[k], encoded, depth+1); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func appendBulk(dst, b []byte) []byte {
	dst = strconv.AppendInt(append(dst, '$'), int64(len(b)), 10)
	dst = append(append(dst, "\r\n"...), b...)
	return append(dst, "\r\n"...)
}
