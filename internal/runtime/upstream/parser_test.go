package upstream

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// seen is what a requestParser found: the name and the size of each command.
type seen struct {
	name string
	size int64
}

// parse feeds b in pieces of the given sizes, repeated.
func parse(b []byte, pieces ...int) (all []seen, ok bool) {
	var p requestParser
	for i := 0; len(b) > 0; i++ {
		n := min(len(b), max(1, pieces[i%len(pieces)]))
		piece := b[:n]
		b = b[n:]
		for len(piece) > 0 {
			n, ev := p.scan(piece)
			piece = piece[n:]
			switch ev {
			case ended:
				all = append(all, seen{p.command(), p.size})
			case bad:
				return all, false
			case more, named:
			}
		}
	}
	return all, true
}

func request(args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b.String()
}

func TestRequestParser(t *testing.T) {
	cases := []struct {
		name string
		in   string
		want []string
		bad  bool
	}{
		{name: "one command", in: request("SET", "k", "v"), want: []string{"set"}},
		{name: "a pipeline", in: request("get", "a") + request("PING") + request("Get", "b"), want: []string{"get", "ping", "get"}},
		{name: "a subcommand", in: request("CLIENT", "LIST"), want: []string{"client|list"}},
		{name: "a container without its subcommand", in: request("client"), want: []string{"client"}},
		{name: "an argument that looks like a command", in: request("set", "k", request("FLUSHALL")), want: []string{"set"}},
		{name: "empty arguments", in: request("set", "", ""), want: []string{"set"}},
		{name: "an empty name", in: request("", "a"), want: []string{"?"}},
		{name: "a name with a line break in it", in: request("a\r\nb"), want: []string{"?"}},
		{name: "a name of 100 bytes", in: request(strings.Repeat("a", 100)), want: []string{strings.Repeat("a", maxName)}},
		{name: "an empty array, which is no command", in: "*0\r\n" + request("ping"), want: []string{"ping"}},
		{name: "a null array, which is no command", in: "*-1\r\n" + request("ping"), want: []string{"ping"}},
		{name: "a command typed as a line", in: "PING\r\nconfig get x\n" + request("get", "a"), want: []string{"ping", "config|get", "get"}},
		{name: "an empty line", in: "\r\n" + request("get", "a"), want: []string{"get"}},
		{name: "half a command", in: request("set", "k", "v")[:15]},
		{name: "a negative argument length", in: "*1\r\n$-1\r\n", bad: true},
		{name: "no argument length", in: "*1\r\nget\r\n", bad: true},
		{name: "an argument longer than announced", in: "*1\r\n$3\r\npingx\r\n", bad: true},
		{name: "a length that is no number", in: "*x\r\n", bad: true},
		{name: "a length too large", in: "*1\r\n$99999999999999999999\r\n", bad: true},
		{name: "a length without digits", in: "*\r\n", bad: true},
	}
	for _, c := range cases {
		for _, cut := range []int{1, 2, 3, 7, 1 << 20} {
			t.Run(fmt.Sprintf("%s, %d bytes at a time", c.name, cut), func(t *testing.T) {
				all, ok := parse([]byte(c.in), cut)
				if ok == c.bad {
					t.Errorf("valid = %t, want %t", ok, !c.bad)
				}
				var got []string
				for _, s := range all {
					got = append(got, s.name)
				}
				if !reflect.DeepEqual(got, c.want) {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		}
	}

	t.Run("sizes add up to what was sent", func(t *testing.T) {
		in := request("set", "k", strings.Repeat("v", 10_000)) + request("client", "list") + request("get", "")
		all, _ := parse([]byte(in), 13)
		var sum int64
		for _, s := range all {
			sum += s.size
		}
		if sum != int64(len(in)) {
			t.Errorf("sum %d, want %d", sum, len(in))
		}
	})

	t.Run("a value of a gigabyte costs no memory", func(t *testing.T) {
		var p requestParser
		feed := func(b []byte) (last event) {
			for len(b) > 0 {
				n, ev := p.scan(b)
				b, last = b[n:], ev
			}
			return last
		}
		const size = 1 << 30
		feed(fmt.Appendf(nil, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n", size))
		piece := make([]byte, 1<<20)
		// A first run and 31 more, over all of which what others allocate meanwhile is averaged away.
		allocs := testing.AllocsPerRun(31, func() {
			for range size / len(piece) / 32 {
				feed(piece)
			}
		})
		if ev := feed([]byte("\r\n")); ev != ended || allocs > 0 {
			t.Errorf("event %d, %v allocations, want ended and none", ev, allocs)
		}
	})
}

// slowParse is what the parser must agree with: it needs the whole input and copies everything.
func slowParse(b []byte) (names []string, complete bool) {
	for len(b) > 0 {
		var n int
		rest, ok := cutNumber(b, '*', &n)
		if !ok {
			return names, false
		}
		var args []string
		for range n {
			var size int
			if rest, ok = cutNumber(rest, '$', &size); !ok || size < 0 || len(rest) < size+2 || string(rest[size:size+2]) != "\r\n" {
				return names, false
			}
			args = append(args, string(rest[:size]))
			rest = rest[size+2:]
		}
		if len(args) > 0 {
			anys := make([]any, len(args))
			for i, a := range args {
				anys[i] = a
			}
			names = append(names, argsName(anys))
		}
		b = rest
	}
	return names, true
}

func cutNumber(b []byte, kind byte, n *int) ([]byte, bool) {
	line, rest, ok := bytes.Cut(b, []byte("\r\n"))
	if !ok || len(line) < 2 || line[0] != kind {
		return nil, false
	}
	if _, err := fmt.Sscanf(string(line[1:]), "%d", n); err != nil || fmt.Sprint(*n) != string(line[1:]) || *n > 1<<20 {
		return nil, false
	}
	return rest, true
}

func FuzzRequestParser(f *testing.F) {
	f.Add([]byte(request("set", "k", "v")+request("client", "list")), uint64(1))
	f.Add([]byte("*1\r\n$0\r\n\r\n*0\r\nPING\r\n"), uint64(2))
	f.Add([]byte("*2\r\n$6\r\nconfig\r\n$3\r\nget\r\n*-1\r\n"), uint64(3))
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 1)) // reproducible on purpose
		pieces := []int{1 + rnd.IntN(5), 1 + rnd.IntN(50), 1 + rnd.IntN(3)}
		whole, okWhole := parse(in, 1<<30)
		cut, okCut := parse(in, pieces...)
		if okWhole != okCut || !reflect.DeepEqual(whole, cut) {
			t.Fatalf("whole: %v %t, cut: %v %t", whole, okWhole, cut, okCut)
		}
		if names, complete := slowParse(in); complete {
			var got []string
			for _, s := range whole {
				got = append(got, s.name)
			}
			// A long name is cut by the parser and unknown to the other; neither is a command.
			for i := range got {
				if i < len(names) && (strings.Contains(names[i], "?") || len(got[i]) >= maxName) {
					got[i], names[i] = "?", "?"
				}
			}
			if !okWhole || !reflect.DeepEqual(got, names) {
				t.Fatalf("got %q %t, want %q", got, okWhole, names)
			}
		}
	})
}

// replies feeds b in pieces and returns kind and size of each reply.
func replies(b []byte, pieces ...int) (all []string, ok bool) {
	var p replyParser
	for i := 0; len(b) > 0; i++ {
		n := min(len(b), max(1, pieces[i%len(pieces)]))
		piece := b[:n]
		b = b[n:]
		for len(piece) > 0 {
			n, ev := p.scan(piece)
			piece = piece[n:]
			if ev == ended {
				all = append(all, fmt.Sprintf("%c%d %s", p.kind, p.size, p.line))
			}
			if ev == bad {
				return all, false
			}
		}
	}
	return all, true
}

func TestReplyParser(t *testing.T) {
	cases := []struct {
		name string
		in   string
		want []string
		bad  bool
	}{
		{name: "simple replies", in: "+OK\r\n:1\r\n-ERR no\r\n", want: []string{"+5 ", ":4 ", "-9 ERR no"}},
		{name: "a bulk string with line breaks", in: "$6\r\na\r\nb\r\n\r\n+OK\r\n", want: []string{"$12 ", "+5 "}},
		{name: "null replies", in: "$-1\r\n*-1\r\n_\r\n", want: []string{"$5 ", "*5 ", "_3 "}},
		{name: "empty replies", in: "$0\r\n\r\n*0\r\n%0\r\n", want: []string{"$6 ", "*4 ", "%4 "}},
		{name: "an array with errors inside", in: "*3\r\n-ERR a\r\n*2\r\n:1\r\n$1\r\nx\r\n*0\r\n", want: []string{"*31 "}},
		{name: "a map, a set and a push of RESP3", in: "%1\r\n+a\r\n:1\r\n~1\r\n#t\r\n>2\r\n+x\r\n,1.5\r\n", want: []string{"%12 ", "~8 ", ">14 "}},
		{name: "an attribute, which is not a reply", in: "|1\r\n+a\r\n:1\r\n+OK\r\n", want: []string{"+5 "}},
		{name: "an attribute inside an array", in: "*2\r\n|1\r\n+a\r\n:1\r\n:5\r\n:6\r\n", want: []string{"*24 "}},
		{name: "a long error of RESP3", in: "!5\r\nERR x\r\n", want: []string{"!11 ERR x"}},
		{name: "half a reply", in: "$5\r\nab"},
		{name: "something else", in: "HTTP/1.1 200 OK\r\n", bad: true},
		{name: "a length that is no number", in: "$x\r\n", bad: true},
		{name: "nesting without end", in: strings.Repeat("*1\r\n", maxDepth+1), bad: true},
	}
	for _, c := range cases {
		for _, cut := range []int{1, 2, 5, 1 << 20} {
			t.Run(fmt.Sprintf("%s, %d bytes at a time", c.name, cut), func(t *testing.T) {
				got, ok := replies([]byte(c.in), cut)
				if ok == c.bad || !reflect.DeepEqual(got, c.want) {
					t.Errorf("got %q, valid %t; want %q, %t", got, ok, c.want, !c.bad)
				}
			})
		}
	}
}

func FuzzReplyParser(f *testing.F) {
	f.Add([]byte("*2\r\n|1\r\n+a\r\n:1\r\n:5\r\n:6\r\n!5\r\nERR x\r\n"), uint64(1))
	f.Add([]byte("%1\r\n+a\r\n$-1\r\n>1\r\n-E\r\n"), uint64(2))
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 1)) // reproducible on purpose
		whole, okWhole := replies(in, 1<<30)
		cut, okCut := replies(in, 1+rnd.IntN(5), 1+rnd.IntN(50))
		if okWhole != okCut || !reflect.DeepEqual(whole, cut) {
			t.Fatalf("whole: %q %t, cut: %q %t", whole, okWhole, cut, okCut)
		}
	})
}

func FuzzParseInfo(f *testing.F) {
	f.Add("# Server\r\nredis_version:7.0.15\r\n\r\ncmdstat_get:calls=1\n:\nx")
	f.Fuzz(func(t *testing.T, in string) {
		for name := range ParseInfo(in) {
			if strings.Contains(name, ":") || strings.HasPrefix(name, "#") {
				t.Errorf("field %q", name)
			}
		}
	})
}
