package cache_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A fakeRedis is as much of a Redis as the cache uses, on the clock of its bubble: in-process pipes and
// package time, so that hours pass in no time. What the cache does to a real server is tested on one.
type fakeRedis struct {
	mu     sync.Mutex
	data   map[string]fakeValue
	calls  map[string]int
	down   bool          // dials fail and connections end
	hang   bool          // nothing is answered
	delay  time.Duration // before each answer
	conns  map[net.Conn]bool
	served sync.WaitGroup
	pubsub func(payload string)
}

type fakeValue struct {
	text string
	ends time.Time
}

var errDown = errors.New("connection refused")

func newFake(t *testing.T) (*fakeRedis, redis.UniversalClient) {
	f := &fakeRedis{data: map[string]fakeValue{}, calls: map[string]int{}, conns: map[net.Conn]bool{}}
	client := redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:1", Protocol: 2, PoolSize: 64, PipelinePoolSize: -1, MaxRetries: -1, DialerRetries: 1,
		DisableIdentity: true, ContextTimeoutEnabled: true, ConnMaxIdleTime: -1,
		Dialer: func(context.Context, string, string) (net.Conn, error) { return f.dial() },
	})
	t.Cleanup(func() {
		_ = client.Close()
		f.stop()
		f.served.Wait()
	})
	return f, client
}

func (f *fakeRedis) dial() (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, errDown
	}
	near, far := net.Pipe()
	f.conns[far] = true
	f.served.Go(func() { f.serve(far) })
	return near, nil
}

// stop ends all connections and refuses new ones until start.
func (f *fakeRedis) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = true
	for c := range f.conns {
		_ = c.Close()
	}
	clear(f.conns)
}

func (f *fakeRedis) start() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = false
}

func (f *fakeRedis) setHang(hang bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hang = hang
}

// count is how many of the commands were run, and of all without names.
func (f *fakeRedis) count(commands ...string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for name, calls := range f.calls {
		for _, c := range commands {
			if name == c {
				n += calls
			}
		}
		if len(commands) == 0 && name != "HELLO" && name != "CLIENT" {
			n += calls
		}
	}
	return n
}

func (f *fakeRedis) put(key, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.data[key] = fakeValue{text: value}
}

func (f *fakeRedis) value(key string) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.get(key)
}

// keep is how long a key has to live.
func (f *fakeRedis) keep(key string) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Until(f.data[key].ends)
}

func (f *fakeRedis) get(key string) (string, bool) {
	v, ok := f.data[key]
	if ok && !v.ends.IsZero() && !time.Now().Before(v.ends) {
		delete(f.data, key)
		return "", false
	}
	return v.text, ok
}

func (f *fakeRedis) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	w := bufio.NewWriter(c)
	for {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		f.mu.Lock()
		hang, delay := f.hang, f.delay
		f.mu.Unlock()
		if hang {
			_, _ = io.Copy(io.Discard, r)
			return
		}
		if delay > 0 {
			time.Sleep(delay)
		}
		f.mu.Lock()
		reply := f.run(args)
		f.mu.Unlock()
		_, _ = w.WriteString(reply)
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
	}
}

func readCommand(r *bufio.Reader) ([]string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	n, _ := strconv.Atoi(strings.Trim(line, "*\r\n"))
	args := make([]string, n)
	for i := range args {
		if line, err = r.ReadString('\n'); err != nil {
			return nil, err
		}
		size, _ := strconv.Atoi(strings.Trim(line, "$\r\n"))
		b := make([]byte, size+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		args[i] = string(b[:size])
	}
	return args, nil
}

func bulk(text string, ok bool) string {
	if !ok {
		return "$-1\r\n"
	}
	return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text)
}

func (f *fakeRedis) run(args []string) string {
	name := strings.ToUpper(args[0])
	f.calls[name]++
	switch name {
	case "GET":
		return bulk(f.get(args[1]))
	case "MGET":
		var b strings.Builder
		fmt.Fprintf(&b, "*%d\r\n", len(args)-1)
		for _, key := range args[1:] {
			b.WriteString(bulk(f.get(key)))
		}
		return b.String()
	case "SETNX":
		if _, there := f.get(args[1]); there {
			return ":0\r\n"
		}
		f.data[args[1]] = fakeValue{text: args[2]}
		return ":1\r\n"
	case "SET":
		v := fakeValue{text: args[2]}
		for i := 3; i < len(args); i++ {
			switch strings.ToUpper(args[i]) {
			case "NX":
				if _, there := f.get(args[1]); there {
					return "$-1\r\n"
				}
			case "EX", "PX":
				n, _ := strconv.Atoi(args[i+1])
				unit := time.Second
				if strings.EqualFold(args[i], "PX") {
					unit = time.Millisecond
				}
				v.ends = time.Now().Add(time.Duration(n) * unit)
				i++
			}
		}
		f.data[args[1]] = v
		return "+OK\r\n"
	case "MSET":
		for i := 1; i < len(args); i += 2 {
			f.data[args[i]] = fakeValue{text: args[i+1]}
		}
		return "+OK\r\n"
	case "UNLINK":
		n := 0
		for _, key := range args[1:] {
			if _, there := f.get(key); there {
				n++
			}
			delete(f.data, key)
		}
		return fmt.Sprintf(":%d\r\n", n)
	case "PUBLISH":
		if f.pubsub != nil {
			f.pubsub(args[2])
		}
		return ":1\r\n"
	}
	return "-ERR unknown command\r\n"
}
