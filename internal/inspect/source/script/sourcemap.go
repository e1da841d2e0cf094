package script

import (
	"encoding/json"
	"errors"
	"sort"
	"strings"
)

// A mapping says where a place of generated code came from; all numbers count from 0, columns in
// UTF-16 units.
type mapping struct {
	generatedLine, generatedColumn int32
	line, column                   int32
}

// decodeMap reads a source map of one source.
func decodeMap(data []byte) ([]mapping, error) {
	var m struct {
		Mappings string `json:"mappings"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	out := make([]mapping, 0, len(m.Mappings)/5)
	var line, column int32
	generated := int32(0)
	for text := range strings.SplitSeq(m.Mappings, ";") {
		at := int32(0)
		for segment := range strings.SplitSeq(text, ",") {
			if segment == "" {
				continue
			}
			fields, err := decodeVLQ(segment)
			if err != nil {
				return nil, err
			}
			at += fields[0]
			line += fields[2]
			column += fields[3]
			out = append(out, mapping{generated, at, line, column})
		}
		generated++
	}
	return out, nil
}

// decodeVLQ reads up to five base64 numbers.
func decodeVLQ(s string) ([5]int32, error) {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	var out [5]int32
	n, shift := 0, 0
	value := int32(0)
	for i := range len(s) {
		d := strings.IndexByte(digits, s[i])
		if d < 0 || n == len(out) || shift > 30 {
			return out, errors.New("source map: not a number")
		}
		value |= int32(d&31) << shift //nolint:gosec // five bits
		if d&32 != 0 {
			shift += 5
			continue
		}
		out[n] = value >> 1
		if value&1 != 0 {
			out[n] = -out[n]
		}
		n, shift, value = n+1, 0, 0
	}
	return out, nil
}

// find returns the last mapping at or before a generated place on its line.
func find(all []mapping, line, column int) (mapping, bool) {
	i := sort.Search(len(all), func(i int) bool {
		m := all[i]
		return int(m.generatedLine) > line || (int(m.generatedLine) == line && int(m.generatedColumn) > column)
	})
	if i == 0 || int(all[i-1].generatedLine) != line {
		return mapping{}, false
	}
	return all[i-1], true
}

func lineStarts(code []byte) []int32 {
	out := []int32{0}
	for i, c := range code {
		if c == '\n' {
			out = append(out, int32(i)+1) //nolint:gosec // files are refused long before 2 GiB
		}
	}
	return out
}

// search returns the line that an offset is on, or -1.
func search(starts []int32, offset int32) int {
	return sort.Search(len(starts), func(i int) bool { return starts[i] > offset }) - 1
}
