package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"
)

// Bounds of what the server may say on the bell.
const (
	bellMaxBytes = 512 << 20
	bellMaxItems = 1 << 24
	bellMaxDepth = 8
)

// A value is something the server said, in RESP2 or RESP3.
type value struct {
	text   string
	failed bool
	list   bool
	items  []value
}

var errBell = errors.New("what came over the bell is not RESP")

// readValue reads one value. Numbers are texts, a map is the list of its keys and values.
func readValue(r *bufio.Reader, depth int) (value, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return value{}, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' || depth > bellMaxDepth {
		return value{}, errBell
	}
	kind, rest := line[0], string(line[1:len(line)-2])
	switch kind {
	case '+', ':', '_', ',', '#', '(':
		return value{text: rest}, nil
	case '-':
		return value{text: rest, failed: true}, nil
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	if err != nil {
		return value{}, errBell
	}
	switch kind {
	case '$', '=', '!':
		if n < 0 {
			return value{}, nil
		}
		if n > bellMaxBytes {
			return value{}, errBell
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return value{}, err
		}
		return value{text: string(b[:n]), failed: kind == '!'}, nil
	case '*', '>', '~', '%', '|':
		return readList(r, kind, n, depth)
	}
	return value{}, fmt.Errorf("%w: it begins with %q", errBell, kind)
}

func readList(r *bufio.Reader, kind byte, n int64, depth int) (value, error) {
	if kind == '%' || kind == '|' {
		n *= 2
	}
	if n > bellMaxItems {
		return value{}, errBell
	}
	v := value{list: true}
	for range n {
		item, err := readValue(r, depth+1)
		if err != nil {
			return value{}, err
		}
		v.items = append(v.items, item)
	}
	if kind == '|' {
		// An attribute of what follows.
		return readValue(r, depth)
	}
	return v, nil
}

func backoffRandom(bound time.Duration) time.Duration { return rand.N(bound) }
