package rest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// FuzzRequests: commands are found the same however the writes are cut, and what is sent for them is
// JSON that says the same.
func FuzzRequests(f *testing.F) {
	f.Add([]byte("*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n"), uint8(3))
	f.Add([]byte("*0\r\n*1\r\n$0\r\n\r\n"), uint8(1))
	f.Add([]byte("*-1\r\n*1\r\n$4\r\n\"\\\n\x01\r\n"), uint8(2))
	f.Add([]byte("*1\r\n$99999999999\r\n"), uint8(9))
	f.Add([]byte("PING\r\n"), uint8(1))
	f.Fuzz(func(t *testing.T, input []byte, cut uint8) {
		collect := func(step int) (cmds [][]string, ok bool) {
			var p requestParser
			var buf []byte
			var spans []span
			used := 0
			ok = true
			for rest := input; len(rest) > 0 && ok; {
				n := min(step, len(rest))
				buf = append(buf, rest[:n]...)
				rest = rest[n:]
				ok = p.parse(buf, &spans, func(_, _ int) {
					var cmd []string
					for _, s := range spans[used:] {
						cmd = append(cmd, string(buf[s.off:s.off+s.len]))
					}
					used = len(spans)
					cmds = append(cmds, cmd)
				})
			}
			return cmds, ok
		}
		whole, ok := collect(len(input) + 1)
		pieces, okPieces := collect(int(cut) + 1)
		if len(pieces) < len(whole) && ok && okPieces || ok != okPieces && ok {
			t.Fatalf("whole: %q, %v; in pieces of %d: %q, %v", whole, ok, int(cut)+1, pieces, okPieces)
		}
		for _, cmd := range whole {
			r := &request{}
			c := command{}
			text := true
			for _, a := range cmd {
				r.spans = append(r.spans, span{len(r.buf), len(a)})
				r.buf = append(r.buf, a...)
				c.args++
				text = text && utf8.ValidString(a)
			}
			r.cmds = []command{c}
			if !text {
				continue
			}
			var all [][]string
			if err := json.Unmarshal(appendBody(nil, r), &all); err != nil || len(all) != 1 || len(all[0]) != len(cmd) {
				t.Fatalf("%q became %q: %v", cmd, appendBody(nil, r), err)
			}
			back := all[0]
			for i := range back {
				if back[i] != cmd[i] {
					t.Fatalf("%q came back as %q", cmd, back)
				}
			}
		}
	})
}

// FuzzReplies: an answer of any endpoint becomes whole replies, as many as there are commands, or none.
func FuzzReplies(f *testing.F) {
	f.Add([]byte("*2\r\n$1\r\na\r\n:5\r\n"), uint8(2), false, false)
	f.Add([]byte(`[{"result":"T0s="},{"error":"ERR no"}]`), uint8(2), false, true)
	f.Add([]byte(`[{"result":["YQ==",1,null,[true,"OK"],1.5]}]`), uint8(1), true, true)
	f.Add([]byte(`{"result":"a"}`), uint8(1), false, false)
	f.Add([]byte("-ERR no\r\n"), uint8(3), false, false)
	f.Add([]byte("*1\r\n*1\r\n*-1\r\n"), uint8(1), false, false)
	f.Fuzz(func(t *testing.T, body []byte, n uint8, tx, encoded bool) {
		r := &request{tx: tx, cmds: make([]command, int(n)%8+1)}
		if tx {
			r.cmds = make([]command, int(n)%8+3)
		}
		out, err := r.replies(nil, answer{status: 200, body: body, encoded: encoded})
		if err != nil {
			return
		}
		at := 0
		for range r.replyCount() {
			if at = skip(out, at, 0); at < 0 {
				t.Fatalf("%q became %q, which is not %d replies", body, out, r.replyCount())
			}
		}
		if at != len(out) {
			t.Fatalf("%q became %q, which goes on after %d replies", body, out, r.replyCount())
		}
	})
}

// FuzzStrings: bytes in base64 come back unchanged.
func FuzzStrings(f *testing.F) {
	f.Add([]byte("OK"))
	f.Add([]byte("a\r\n\x00\xff"))
	f.Fuzz(func(t *testing.T, s []byte) {
		body, err := json.Marshal([]any{map[string]any{"result": []any{base64.StdEncoding.EncodeToString(s)}}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := appendResults(nil, body, 1, true)
		want := append(append([]byte("*1\r\n"), appendBulk(nil, s)...), []byte(nil)...)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%q became %q, %v", s, got, err)
		}
	})
}

// FuzzEvents: a stream of events is read to its end whatever is in it, and an event is never longer than
// allowed.
func FuzzEvents(f *testing.F) {
	f.Add([]byte("data: message,a,b\n\ndata:x\r\ndata: y\r\n\r\n: c\n: messages may have been missed\n\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		e := newEventReader(bytes.NewReader(input), 64)
		st := &stream{kind: "message", names: []string{"a", "a,b"}}
		for {
			data, _, err := e.next()
			if err != nil {
				return
			}
			if len(data) > 64 {
				t.Fatalf("an event of %d bytes", len(data))
			}
			st.message(data)
		}
	})
}
