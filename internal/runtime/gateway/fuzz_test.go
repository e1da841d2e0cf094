package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzBody compares the parser of bodies with the standard library's.
func FuzzBody(f *testing.F) {
	for _, s := range []string{
		`["GET","k"]`, `[]`, `["SET","k",1,-1.5e+3,true,false,null]`, "[\"\\u00e9\\ud83d\\ude00\\ud83d\\n\\\"\"]", `[[]]`, `[{}]`, `["a",]`, `["a" "b"]`, ` [ "x" ] `,
		`["\ud83d\u0041"]`, `["\u0000"]`, `[01]`, `[1.]`, "[\"\x01\"]", `["`, `[`, ``, `["\`, `["\u`, `["\ud83d\u`, "[\"\xff\"]", `[1E400]`, `["a"]]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if !utf8.Valid(body) {
			return // refused before
		}
		var want []json.RawMessage
		d := json.NewDecoder(bytes.NewReader(body))
		valid := json.Valid(body) && d.Decode(&want) == nil && want != nil
		p := bodyParser{b: bytes.Clone(body)}
		args, err := p.command(nil, errNotArray)
		if err == nil {
			err = p.end()
		}
		if err == nil && !valid {
			t.Fatalf("%q is taken as %q", body, args)
		}
		if errors.Is(err, errObject) || errors.Is(err, errNested) {
			return
		}
		if err != nil {
			if valid {
				t.Fatalf("%q is refused: %v", body, err)
			}
			return
		}
		if len(args) != len(want) {
			t.Fatalf("%q has %d arguments, want %d", body, len(args), len(want))
		}
		for i, raw := range want {
			text := string(raw)
			if raw[0] == '"' {
				if err := json.Unmarshal(raw, &text); err != nil {
					t.Fatal(err)
				}
			}
			if string(args[i]) != text {
				t.Fatalf("%q: argument %d is %q, want %q", body, i, args[i], text)
			}
		}
	})
}

// FuzzPath: whatever is decoded is decoded right, and nothing is written outside.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/get/k", "/", "//", "/a%2Fb/", "/%", "/%zz", "?a=b&c", "/x?EX=1&_token=t&NX=&+=%2B"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, uri []byte) {
		path, query, _ := bytes.Cut(bytes.Clone(uri), []byte{'?'})
		_ = queryToken(query)
		args, err := appendPath(nil, path)
		if err == nil {
			args, err = appendQuery(args, query)
		}
		if err != nil {
			return
		}
		total := 0
		for _, a := range args {
			total += len(a)
		}
		if total > len(uri) {
			t.Fatalf("%q has %d bytes of arguments %q", uri, total, args)
		}
	})
}

// FuzzBridge: a reply becomes valid JSON with the same values, or an error; never anything else.
func FuzzBridge(f *testing.F) {
	for _, s := range []string{
		"+OK\r\n", "-ERR x\r\n", ":12\r\n", "$-1\r\n", "*-1\r\n", "$3\r\na\"\xff\r\n", "*2\r\n$1\r\na\r\n*1\r\n:-3\r\n", "*3\r\n+OK\r\n-no\r\n$0\r\n\r\n",
		"$100\r\nabc\r\n", "*1000000000\r\n", "$2147483648\r\n", ":1x\r\n", ":000\r\n", ":-0\r\n", ":+1\r\n", ":\r\n", "*1\r\n", "", "\r\n", "+a\rb\r\n", strings.Repeat("*1\r\n", 200) + ":1\r\n", "HTTP/1.1 200 OK\r\n",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, reply []byte, encode bool) {
		given := bytes.Clone(reply)
		end, endErr := replyEnd(reply)
		out, n, failed, err := bridge{base64: encode}.item([]byte("x"), reply)
		if !bytes.Equal(given, reply) {
			t.Fatal("the reply was changed")
		}
		if err != nil {
			if endErr == nil && !bytes.ContainsRune(reply, ':') {
				t.Fatalf("%q is whole but not bridged: %v", reply, err)
			}
			return
		}
		if endErr != nil || n != end {
			t.Fatalf("%q ends at %d, %v, but %d were bridged", reply, end, endErr, n)
		}
		out = out[1:]
		if !json.Valid(out) || !utf8.Valid(out) {
			t.Fatalf("%q became %q, which is not JSON", reply, out)
		}
		var item map[string]any
		d := json.NewDecoder(bytes.NewReader(out))
		d.UseNumber()
		if err := d.Decode(&item); err != nil || len(item) != 1 {
			t.Fatalf("%q became %q: %v", reply, out, err)
		}
		if failed {
			if _, ok := item["error"]; !ok {
				t.Fatalf("%q became %q, want an error", reply, out)
			}
			return
		}
		if want := valueOf(reply[:n], encode, 0); !same(item["result"], want) {
			t.Fatalf("%q became %s, want %v", reply, out, want)
		}
	})
}

// valueOf is a second, plain way from a reply that is known to be right to its JSON value.
func valueOf(b []byte, encode bool, depth int) any {
	v, _ := valueAt(b, encode, depth)
	return v
}

func valueAt(b []byte, encode bool, depth int) (any, []byte) {
	line, rest, _ := strings.Cut(string(b[1:]), "\r\n")
	str := func(s string) string {
		if encode {
			return base64.StdEncoding.EncodeToString([]byte(s))
		}
		return toUTF8(s)
	}
	n, _ := strconv.Atoi(line)
	switch {
	case b[0] == '+' && line == "OK" && depth == 0:
		return "OK", []byte(rest)
	case b[0] == '+':
		return str(line), []byte(rest)
	case b[0] == '-':
		return toUTF8(line), []byte(rest)
	case b[0] == ':':
		return json.Number(line), []byte(rest)
	case n < 0:
		return nil, []byte(rest)
	case b[0] == '$':
		return str(rest[:n]), []byte(rest[n+2:])
	}
	list := []any{}
	left := []byte(rest)
	for range n {
		var v any
		v, left = valueAt(left, encode, depth+1)
		list = append(list, v)
	}
	return list, left
}

// toUTF8 replaces every byte that is not UTF-8 by itself, as the protocol wants it.
func toUTF8(s string) string { return string([]rune(s)) }

func same(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// FuzzScript: a rewritten script has the same lines after the first, and the flag is gone.
func FuzzScript(f *testing.F) {
	for _, s := range []string{"#!lua flags=allow-key-locking\nreturn 1", "#!lua", "#!lua flags=allow-key-locking,no-writes", "#!", "", "#!lua  flags=,allow-key-locking,\r\nx", "return 1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		var s scripts
		given := bytes.Clone(script)
		out := s.rewrite(script)
		if !bytes.Equal(given, script) {
			t.Fatal("the script was changed")
		}
		if bytes.Count(out, []byte{'\n'}) != bytes.Count(script, []byte{'\n'}) {
			t.Fatalf("%q became %q: the lines changed", script, out)
		}
		_, rest, _ := bytes.Cut(script, []byte{'\n'})
		_, left, _ := bytes.Cut(out, []byte{'\n'})
		if !bytes.Equal(rest, left) {
			t.Fatalf("%q became %q: more than the first line changed", script, out)
		}
	})
}
