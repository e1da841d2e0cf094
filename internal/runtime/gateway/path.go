package gateway

import "bytes"

// appendPath appends the segments of path to args, percent-decoded in place. Slashes at the beginning and
// one at the end make no segment; an empty one in between is an empty argument.
func appendPath(args [][]byte, path []byte) ([][]byte, error) {
	path = bytes.TrimLeft(path, "/")
	path = bytes.TrimSuffix(path, []byte{'/'})
	if len(path) == 0 {
		return args, nil
	}
	for more := true; more; {
		var segment []byte
		segment, path, more = bytes.Cut(path, []byte{'/'})
		decoded, err := unescapePercent(segment, false)
		if err != nil {
			return args, err
		}
		args = append(args, decoded)
	}
	return args, nil
}

// appendQuery appends the parameters of query to args, name and then value, decoded in place; a parameter
// without a value is one argument. The parameter _token is left out.
func appendQuery(args [][]byte, query []byte) ([][]byte, error) {
	var err error
	for more := len(query) > 0; more; {
		var param []byte
		param, query, more = bytes.Cut(query, []byte{'&'})
		if len(param) == 0 {
			continue
		}
		name, value, _ := bytes.Cut(param, []byte{'='})
		if name, err = unescapePercent(name, true); err != nil {
			return args, err
		}
		if value, err = unescapePercent(value, true); err != nil {
			return args, err
		}
		if string(name) == "_token" {
			continue
		}
		args = append(args, name)
		if len(value) > 0 {
			args = append(args, value)
		}
	}
	return args, nil
}

// unescapePercent decodes b in place. Plus is whether a plus sign stands for a space, as it does in a query.
func unescapePercent(b []byte, plus bool) ([]byte, error) {
	i := bytes.IndexByte(b, '%')
	if plus {
		if j := bytes.IndexByte(b, '+'); j >= 0 && (i < 0 || j < i) {
			i = j
		}
	}
	if i < 0 {
		return b, nil
	}
	to := i
	for ; i < len(b); i++ {
		c := b[i]
		switch {
		case c == '+' && plus:
			c = ' '
		case c == '%':
			if i+2 >= len(b) {
				return nil, errPercent
			}
			high, ok1 := unhex(b[i+1])
			low, ok2 := unhex(b[i+2])
			if !ok1 || !ok2 {
				return nil, errPercent
			}
			c = high<<4 | low
			i += 2
		}
		b[to] = c
		to++
	}
	return b[:to:to], nil
}
