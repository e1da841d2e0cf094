package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

const secret = "s3cr3t-hunter2"

// failOpen opens with o, which must fail with class, long before a timeout that o does not set, leaving no
// credentials in the text.
func failOpen(t *testing.T, o upstream.Options, want upstream.Class) error {
	t.Helper()
	if o.DialTimeout == 0 {
		o.DialTimeout = patience
	}
	if o.Timeout == 0 {
		o.Timeout = patience
	}
	if want == upstream.TLSMismatch {
		o = upstream.PatientWithReasons(o, patience)
	}
	begin := time.Now()
	u, err := upstream.Open(t.Context(), o)
	if err == nil {
		_ = u.Close()
		t.Fatalf("Open succeeded, want class %s", want)
	}
	if got := upstream.Classify(err); got != want {
		t.Errorf("class of %q = %s, want %s", err, got, want)
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("the password is in the error: %q", err)
	}
	if took := time.Since(begin); took > patience/3 {
		t.Errorf("took %s", took)
	}
	return err
}

func withPassword(addr string) string { return "redis://someone:" + secret + "@" + addr }

func wantText(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

func TestOpenSaysWhyItFailed(t *testing.T) {
	t.Run("plain text to a server that speaks TLS", func(t *testing.T) {
		cert, key := certificate(t)
		addr := listen(t, overTLS(t, cert, key, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }))
		err := failOpen(t, upstream.Options{URL: withPassword(addr)}, upstream.TLSMismatch)
		wantText(t, err, addr, "use rediss://")
	})

	t.Run("plain text to a redis-server that speaks TLS", func(t *testing.T) {
		cert, key := certificate(t)
		s := startTLS(t, cert, key)
		err := failOpen(t, upstream.Options{URL: withPassword(s.Addr)}, upstream.TLSMismatch)
		wantText(t, err, "use rediss://")
	})

	t.Run("TLS to a redis-server that does not speak it", func(t *testing.T) {
		s := redistest.Start(t)
		err := failOpen(t, upstream.Options{URL: "rediss://:" + secret + "@" + s.Addr, DialTimeout: 300 * time.Millisecond}, upstream.TLSMismatch)
		wantText(t, err, "use redis://", s.Addr)
	})

	t.Run("TLS to a server that waits for a command in plain text", func(t *testing.T) {
		addr := listen(t, resp(func([]string) string { return "+PONG\r\n" }))
		_ = failOpen(t, upstream.Options{URL: "rediss://:" + secret + "@" + addr, DialTimeout: 300 * time.Millisecond}, upstream.TLSMismatch)
	})

	t.Run("a certificate of an unknown authority", func(t *testing.T) {
		cert, key := certificate(t)
		s := startTLS(t, cert, key)
		err := failOpen(t, upstream.Options{URL: "rediss://" + s.Addr}, upstream.TLSUntrusted)
		wantText(t, err, "unknown authority")
	})

	t.Run("a certificate for another name", func(t *testing.T) {
		cert, key := certificate(t)
		s := startTLS(t, cert, key)
		o := upstream.Options{URL: "rediss://" + s.Addr, TLS: upstream.TLS{CAFile: cert, ServerName: "other.test"}}
		wantText(t, failOpen(t, o, upstream.TLSUntrusted), "other.test")
	})

	t.Run("nothing listens", func(t *testing.T) {
		addr := closedPort(t)
		err := failOpen(t, upstream.Options{URL: withPassword(addr)}, upstream.Refused)
		wantText(t, err, addr)
	})

	t.Run("no such unix socket", func(t *testing.T) {
		_ = failOpen(t, upstream.Options{URL: "unix:///nonexistent/redis.sock"}, upstream.Refused)
	})

	t.Run("the connection is closed at once", func(t *testing.T) {
		addr := listen(t, func(net.Conn) {})
		_ = failOpen(t, upstream.Options{URL: withPassword(addr)}, upstream.Reset)
	})

	t.Run("no reply", func(t *testing.T) {
		addr := listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
		err := failOpen(t, upstream.Options{URL: withPassword(addr), Timeout: 100 * time.Millisecond}, upstream.Timedout)
		wantText(t, err, addr, "no reply after")
	})

	t.Run("no password where one is wanted", func(t *testing.T) {
		s := redistest.Start(t, "--requirepass", secret)
		wantText(t, failOpen(t, upstream.Options{URL: "redis://" + s.Addr}, upstream.Auth), "NOAUTH")
	})

	t.Run("a wrong password", func(t *testing.T) {
		s := redistest.Start(t, "--requirepass", "hush")
		wantText(t, failOpen(t, upstream.Options{URL: "redis://:" + secret + "@" + s.Addr}, upstream.Auth), "WRONGPASS")
	})

	t.Run("a password where none is configured", func(t *testing.T) {
		s := redistest.Start(t)
		_ = failOpen(t, upstream.Options{URL: withPassword(s.Addr)}, upstream.Auth)
	})

	t.Run("a user who may not even PING", func(t *testing.T) {
		s := redistest.Start(t)
		if err := s.Client(t).Do(t.Context(), "acl", "setuser", "someone", "on", ">"+secret, "-@all").Err(); err != nil {
			t.Fatal(err)
		}
		wantText(t, failOpen(t, upstream.Options{URL: withPassword(s.Addr)}, upstream.Permission), "NOPERM")
	})

	t.Run("a server with all its connections taken", func(t *testing.T) {
		s := redistest.Start(t, "--maxclients", "1")
		if err := s.Client(t).Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		wantText(t, failOpen(t, upstream.Options{URL: "redis://" + s.Addr}, upstream.ConnectionLimit), "max number of clients reached")
	})

	t.Run("a provider with all its connections taken", func(t *testing.T) {
		addr := listen(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "-ERR max concurrent connections exceeded\r\n")
			_, _ = io.CopyN(io.Discard, c, 1)
		})
		wantText(t, failOpen(t, upstream.Options{URL: "redis://" + addr}, upstream.ConnectionLimit), "max concurrent connections exceeded")
	})

	t.Run("an HTTP server", func(t *testing.T) {
		addr := listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") })
		wantText(t, failOpen(t, upstream.Options{URL: withPassword(addr)}, upstream.NotRedis), "HTTP server")
	})

	t.Run("an HTTPS server", func(t *testing.T) {
		cert, key := certificate(t)
		addr := listen(t, overTLS(t, cert, key, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1))
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		}))
		_ = failOpen(t, upstream.Options{URL: "rediss://" + addr, TLS: upstream.TLS{CAFile: cert}}, upstream.NotRedis)
	})

	t.Run("a mail server", func(t *testing.T) {
		addr := listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 mail.test ESMTP\r\n"); _, _ = io.Copy(io.Discard, c) })
		wantText(t, failOpen(t, upstream.Options{URL: withPassword(addr)}, upstream.NotRedis), "220 mail.test")
	})

	t.Run("a spent quota", func(t *testing.T) {
		addr := listen(t, resp(func([]string) string {
			return "-ERR max requests limit exceeded. Limit: 500000, Usage: 500003. See https://example.test for details\r\n"
		}))
		err := failOpen(t, upstream.Options{URL: withPassword(addr)}, upstream.Quota)
		if d := upstream.Detail(err); d.Limit != 500_000 || d.Usage != 500_003 {
			t.Errorf("limit %d, usage %d, want 500000, 500003", d.Limit, d.Usage)
		}
	})

	t.Run("the caller gives up while the server is away", func(t *testing.T) {
		s := redistest.Start(t)
		u := open(t, upstream.Options{URL: s.URL()})
		s.Kill(t)
		// Time for one attempt at least, on a busy machine too.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		err := u.Client().Set(ctx, "k", "v", 0).Err()
		if got := upstream.Classify(err); got != upstream.Refused {
			t.Errorf("Classify(%v) = %s, want %s", err, got, upstream.Refused)
		}
		if took := time.Since(begin); took > patience/3 {
			t.Errorf("took %s with 1s to spend", took)
		}
	})
}

func startTLS(t *testing.T, cert, key string) *redistest.Server {
	t.Helper()
	return redistest.Start(t, "--port", "0", "--tls-port", "auto", "--tls-cert-file", cert, "--tls-key-file", key,
		"--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
}

func TestClassify(t *testing.T) {
	reply := func(text string) error { return redis.Error(serverError(text)) }
	cases := []struct {
		name         string
		err          error
		want         upstream.Class
		limit, usage int64
	}{
		{name: "nil is no failure", err: nil, want: upstream.None},
		{name: "a missing key is an answer", err: redis.Nil, want: upstream.None},
		{name: "the monthly quota of Upstash", err: reply("ERR max requests limit exceeded. Limit: 500000, Usage: 500000. See https://upstash.com/docs/redis/troubleshooting/max_requests_limit for details"), want: upstream.Quota, limit: 500_000, usage: 500_000},
		{name: "the daily quota of Upstash", err: reply("ERR max daily request limit exceeded. Limit: 10000, Usage: 10001. See https://upstash.com/docs/redis/troubleshooting/max_daily_request_limit for details"), want: upstream.Quota, limit: 10_000, usage: 10_001},
		{name: "a request larger than Upstash takes", err: reply("ERR max request size exceeded. Limit: 10485760 bytes, Actual: 11000000 bytes. See https://upstash.com/docs for details"), want: upstream.RequestSize, limit: 10_485_760, usage: 11_000_000},
		{name: "a record larger than Upstash takes", err: reply("ERR max single record size exceeded"), want: upstream.RequestSize},
		{name: "a key larger than Upstash takes", err: reply("ERR max key size exceeded. Limit: 32768 bytes, Actual: 40000 bytes"), want: upstream.RequestSize, limit: 32_768, usage: 40_000},
		{name: "the storage of Upstash is full", err: reply("ERR DB capacity quota exceeded"), want: upstream.Capacity},
		{name: "the memory of Redis is full", err: reply("OOM command not allowed when used memory > 'maxmemory'."), want: upstream.Capacity},
		{name: "Upstash takes no more connections", err: reply("ERR max concurrent connections exceeded"), want: upstream.ConnectionLimit},
		{name: "Redis takes no more connections", err: reply("ERR max number of clients reached"), want: upstream.ConnectionLimit},
		{name: "Upstash does not have the command", err: reply("ERR Command is not available: 'ROLE'. See https://upstash.com/docs/redis/overall/rediscompatibility for details"), want: upstream.Unavailable},
		{name: "Upstash does not take the command over REST", err: reply(`ERR Command "AUTH" is not allowed in REST or it has a special context path`), want: upstream.Unavailable},
		{name: "Redis does not know the command", err: reply("ERR unknown command 'FOO', with args beginning with: "), want: upstream.Unavailable},
		{name: "no authentication", err: reply("NOAUTH Authentication required."), want: upstream.Auth},
		{name: "a wrong password", err: reply("WRONGPASS invalid username-password pair or user is disabled."), want: upstream.Auth},
		{name: "a wrapped wrong password", err: fmt.Errorf("failed to authenticate: %w", reply("WRONGPASS invalid username-password pair or user is disabled.")), want: upstream.Auth},
		{name: "a command the user may not run", err: reply("NOPERM this user has no permissions to run the 'set' command"), want: upstream.Permission},
		{name: "a read-only replica", err: reply("READONLY You can't write against a read only replica."), want: upstream.Permission},
		{name: "a server that loads its data", err: reply("LOADING Redis is loading the dataset in memory"), want: upstream.Loading},
		{name: "any other error reply", err: reply("WRONGTYPE Operation against a key holding the wrong kind of value"), want: upstream.Server},
		{name: "a quota text with garbage for numbers", err: reply("ERR max requests limit exceeded. Limit: x, Usage: 99999999999999999999"), want: upstream.Quota},
		{name: "a host name that does not resolve", err: &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "redis.invalid", IsNotFound: true}}, want: upstream.DNS},
		{name: "a host name that is not resolved in time", err: &net.OpError{Op: "dial", Err: &net.DNSError{Err: "timeout", IsTimeout: true}}, want: upstream.DNS},
		{name: "a refused connection", err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, want: upstream.Refused},
		{name: "a reset connection", err: &net.OpError{Op: "read", Err: syscall.ECONNRESET}, want: upstream.Reset},
		{name: "a write to a closed connection", err: &net.OpError{Op: "write", Err: syscall.EPIPE}, want: upstream.Reset},
		{name: "the end of the stream", err: io.EOF, want: upstream.Reset},
		{name: "no route", err: &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, want: upstream.Unreachable},
		{name: "a deadline", err: context.DeadlineExceeded, want: upstream.Timedout},
		{name: "no free connection in time", err: redis.ErrPoolTimeout, want: upstream.Timedout},
		{name: "a caller who gave up", err: context.Canceled, want: upstream.Canceled},
		{name: "our limit on commands", err: &upstream.SpendError{}, want: upstream.Spend},
		{name: "our read-only mode", err: &upstream.ReadOnlyError{}, want: upstream.ReadOnly},
		{name: "our limit on connections", err: &upstream.CapError{}, want: upstream.ConnectionLimit},
		{name: "anything else", err: errors.New("what is this"), want: upstream.Unknown},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := upstream.Classify(c.err); got != c.want {
				t.Errorf("Classify(%v) = %q, want %q", c.err, got, c.want)
			}
			d := upstream.Detail(c.err)
			if c.want == upstream.None {
				if d != nil {
					t.Errorf("Detail = %v, want nil", d)
				}
				return
			}
			if d.Class != c.want || d.Limit != c.limit || d.Usage != c.usage {
				t.Errorf("Detail = %s, limit %d, usage %d, want %s, %d, %d", d.Class, d.Limit, d.Usage, c.want, c.limit, c.usage)
			}
		})
	}
}

type serverError string

func (e serverError) Error() string { return string(e) }
func (serverError) RedisError()     {}

func TestConnectionLoss(t *testing.T) {
	// A server that closes the connection when it is sent a GET, INCR or DEL, which is the moment a
	// client learns that an idle connection is gone when nobody told it before.
	dropping := func(t *testing.T, drops int64) (string, *atomic.Int64) {
		n := new(atomic.Int64)
		return listen(t, resp(func(args []string) string {
			switch strings.ToLower(args[0]) {
			case "hello":
				return "-ERR unknown command 'HELLO'\r\n"
			case "ping":
				return "+PONG\r\n"
			}
			if n.Add(1) <= drops {
				return ""
			}
			return ":1\r\n"
		})), n
	}

	t.Run("a read is sent once more", func(t *testing.T) {
		addr, n := dropping(t, 1)
		u := open(t, upstream.Options{URL: "redis://" + addr})
		if err := u.Client().StrLen(t.Context(), "k").Err(); err != nil {
			t.Errorf("STRLEN: %v", err)
		}
		if n.Load() != 2 {
			t.Errorf("sent %d times, want 2", n.Load())
		}
		if got := u.Spent(); got.Unanswered != 1 {
			t.Errorf("Spent() = %+v, want 1 unanswered", got)
		}
	})

	t.Run("a read is not sent a third time", func(t *testing.T) {
		addr, n := dropping(t, 10)
		u := open(t, upstream.Options{URL: "redis://" + addr})
		if got := upstream.Classify(u.Client().StrLen(t.Context(), "k").Err()); got != upstream.Reset || n.Load() != 2 {
			t.Errorf("class %s after %d, want %s after 2", got, n.Load(), upstream.Reset)
		}
	})

	t.Run("a write whose outcome is unknown is not sent again", func(t *testing.T) {
		addr, n := dropping(t, 1)
		u := open(t, upstream.Options{URL: "redis://" + addr})
		err := u.Client().Incr(t.Context(), "k").Err()
		if got := upstream.Classify(err); got != upstream.Reset || n.Load() != 1 {
			t.Errorf("class of %v = %s after %d, want %s after 1", err, got, n.Load(), upstream.Reset)
		}
		if d := upstream.Detail(err); d.Unsent {
			t.Error("Unsent = true for a command that was sent")
		}
	})

	t.Run("a batch with a write in it is not sent again", func(t *testing.T) {
		addr, n := dropping(t, 1)
		u := open(t, upstream.Options{URL: "redis://" + addr})
		pipe := u.Client().Pipeline()
		pipe.StrLen(t.Context(), "k")
		pipe.Incr(t.Context(), "k")
		if _, err := pipe.Exec(t.Context()); upstream.Classify(err) != upstream.Reset || n.Load() != 1 {
			t.Errorf("err %v after %d, want a reset after 1", err, n.Load())
		}
	})

	t.Run("each outcome is counted", func(t *testing.T) {
		addr, _ := dropping(t, 1)
		u := open(t, upstream.Options{URL: "redis://" + addr})
		_ = u.Client().Incr(t.Context(), "k").Err()
		_ = u.Client().Incr(t.Context(), "k").Err()
		got := map[string]int64{}
		for _, r := range u.Meter().Snapshot().Rows {
			for o, n := range r.Outcomes {
				got[r.Command+" "+string(o)] = n
			}
		}
		for k, want := range map[string]int64{"incr lost": 1, "incr " + string(meter.OK): 1, "hello unavailable": 2, "ping ok": 1} {
			if got[k] != want {
				t.Errorf("%s = %d, want %d, of %v", k, got[k], want, got)
			}
		}
	})
}
