package gateway

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // the identity of a script in Redis is its SHA-1
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// How SCAN … WITHTYPE is done. It is an extension of one provider: a Redis that does not know it is asked
// for the keys, and then for the type of each, which costs one command for each key of the page.
const (
	withTypeUnknown int32 = iota // tried as it is; what the Redis says decides
	withTypeNative
	withTypeAsked
)

// scan is the slot of a SCAN, and its arguments as the Redis gets them.
func (x *exchange) scan(args [][]byte) (slot, [][]byte) {
	at := -1
	for i := 2; i < len(args); i++ {
		switch {
		case isWord(args[i], "withtype"):
			at = i
		case isWord(args[i], "match"), isWord(args[i], "count"), isWord(args[i], "type"):
			i++
		}
	}
	how := x.g.withType.Load()
	if at < 0 || x.multi || how == withTypeNative {
		return slot{}, args
	}
	plain := slices.Delete(slices.Clone(args), at, at+1)
	x.started = time.Now()
	if how == withTypeAsked {
		return slot{scan: plain}, plain
	}
	return slot{scan: plain, native: true}, args
}

// load prepares a SCRIPT LOAD. The Redis answers with the name of what it was sent; name is what the client
// expects instead, if that differs. In a transaction it gets the Redis's name, which works as well.
func (x *exchange) load(args [][]byte) (name string) {
	sent := args[2]
	args[2] = x.g.scripts.rewrite(sent)
	if x.multi || len(args[2]) == len(sent) && &args[2][0] == &sent[0] {
		return ""
	}
	x.started = time.Now()
	sum := sha1.Sum(sent)
	return hex.EncodeToString(sum[:])
}

// complete replaces replies that are not yet what the client expects: to SCAN … WITHTYPE, and to SCRIPT
// LOAD of a script that was rewritten. False: the answer is there.
func (x *exchange) complete(ctx context.Context) bool {
	if x.started.IsZero() {
		return true
	}
	replies := bytes.Clone(x.replies) // the call is needed again
	var others []byte
	for i := range x.slots {
		s := &x.slots[i]
		if s.local != "" {
			continue
		}
		n, err := replyEnd(replies)
		if err != nil {
			x.fail(502, textReply)
			return false
		}
		reply := replies[:n]
		replies = replies[n:]
		if s.name != "" && reply[0] == '$' {
			s.local = "$40\r\n" + s.name + "\r\n"
			continue
		}
		if s.scan == nil {
			others = append(others, reply...)
			continue
		}
		typed, err := x.typed(ctx, s, reply)
		if err != nil {
			x.failed(err)
			return false
		}
		s.local = string(typed)
	}
	x.replies = others
	return true
}

// typed is the reply to a SCAN with the type after each key.
func (x *exchange) typed(ctx context.Context, s *slot, reply []byte) ([]byte, error) {
	if s.native {
		if reply[0] != '-' {
			x.g.withType.Store(withTypeNative)
			return reply, nil
		}
		if !bytes.Contains(reply, []byte("syntax")) {
			return reply, nil
		}
		x.g.withType.Store(withTypeAsked)
		again, err := x.again(ctx, func() error { return x.call.Append(s.scan...) })
		if err != nil {
			return nil, err
		}
		reply = bytes.Clone(again)
	}
	cursor, keys, ok := scanned(reply)
	if !ok {
		return reply, nil
	}
	types, err := x.again(ctx, func() error {
		for _, k := range keys {
			if err := x.call.Append([]byte("TYPE"), k); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := appendBulk(append([]byte(nil), "*2\r\n"...), cursor)
	out = appendArrayHeader(out, 2*len(keys))
	for _, k := range keys {
		line, next, err := replyLine(types, 0)
		if err != nil {
			return nil, err
		}
		out = appendBulk(appendBulk(out, k), line)
		types = types[next:]
	}
	return out, nil
}

// again runs further commands within the time of the request.
func (x *exchange) again(ctx context.Context, fill func() error) ([]byte, error) {
	x.call.Reset(meter.Gateway)
	x.call.SetTimeout(max(time.Millisecond, x.g.opts.Timeout-time.Since(x.started)))
	if err := fill(); err != nil {
		return nil, err
	}
	err := x.g.mux.Do(ctx, x.call)
	return x.call.Reply(), err
}

// scanned are the cursor and the keys in the reply to a SCAN.
func scanned(reply []byte) (cursor []byte, keys [][]byte, ok bool) {
	rest, ok := bytes.CutPrefix(reply, []byte("*2\r\n"))
	if !ok {
		return nil, nil, false
	}
	cursor, rest, ok = cutBulk(rest)
	if !ok || len(rest) == 0 || rest[0] != '*' {
		return nil, nil, false
	}
	line, next, err := replyLine(rest, 0)
	if err != nil {
		return nil, nil, false
	}
	n, err := replyLength(line)
	if err != nil {
		return nil, nil, false
	}
	rest = rest[next:]
	for range max(n, 0) {
		var key []byte
		if key, rest, ok = cutBulk(rest); !ok {
			return nil, nil, false
		}
		keys = append(keys, key)
	}
	return cursor, keys, true
}

// cutBulk is the string at the beginning of b and what follows it.
func cutBulk(b []byte) (s, rest []byte, ok bool) {
	n, err := replyEnd(b)
	if err != nil || b[0] != '$' {
		return nil, nil, false
	}
	_, from, err := replyLine(b, 0)
	if err != nil || from > n-2 {
		return nil, nil, false
	}
	return b[from : n-2], b[n:], true
}

func appendBulk(dst, s []byte) []byte {
	dst = append(dst, '$')
	dst = strconv.AppendInt(dst, int64(len(s)), 10)
	dst = append(dst, '\r', '\n')
	dst = append(dst, s...)
	return append(dst, '\r', '\n')
}
