package gateway

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// newConn is one end of a pipe that counts how often its timer is moved.
func newConn(t *testing.T) (c *conn, other net.Conn, moved *int) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	moved = new(int)
	count := func(set func(time.Time) error) func(time.Time) error {
		return func(at time.Time) error {
			*moved++
			return set(at)
		}
	}
	c = &conn{Conn: a}
	c.reads.set, c.writes.set = count(a.SetReadDeadline), count(a.SetWriteDeadline)
	return c, b, moved
}

func TestDeadlines(t *testing.T) {
	t.Run("a thousand requests move the timer a few times", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, other, moved := newConn(t)
			go func() {
				for range 1000 {
					time.Sleep(100 * time.Millisecond)
					_, _ = other.Write([]byte{'x'})
				}
			}()
			buf := make([]byte, 1)
			for range 1000 {
				_ = c.SetReadDeadline(time.Now().Add(2 * time.Minute))
				if _, err := c.Read(buf); err != nil {
					t.Fatal(err)
				}
				_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
			}
			if *moved > 10 {
				t.Errorf("the timer was moved %d times in 100 seconds", *moved)
			}
		})
	})
	t.Run("the last deadline counts, not the first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, _, _ := newConn(t)
			begin := time.Now()
			_ = c.SetReadDeadline(begin.Add(30 * time.Second))
			_ = c.SetReadDeadline(begin.Add(2 * time.Minute))
			_, err := c.Read(make([]byte, 1))
			if took := time.Since(begin); !errors.Is(err, os.ErrDeadlineExceeded) || took != 2*time.Minute {
				t.Errorf("Read = %v after %s, want the deadline after 2m", err, took)
			}
		})
	})
	t.Run("an earlier one counts at once, for a read that waits already", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, _, _ := newConn(t)
			begin := time.Now()
			_ = c.SetReadDeadline(begin.Add(2 * time.Minute))
			time.AfterFunc(time.Second, func() { _ = c.SetReadDeadline(time.Now()) })
			_, err := c.Read(make([]byte, 1))
			if took := time.Since(begin); !errors.Is(err, os.ErrDeadlineExceeded) || took != time.Second {
				t.Errorf("Read = %v after %s, want the deadline after 1s", err, took)
			}
		})
	})
	t.Run("none at all waits for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, other, _ := newConn(t)
			_ = c.SetDeadline(time.Now().Add(time.Second))
			_ = c.SetDeadline(time.Time{})
			go func() {
				time.Sleep(time.Hour)
				_, _ = other.Write([]byte{'x'})
			}()
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Errorf("Read = %v, want the byte that came after an hour", err)
			}
		})
	})
	t.Run("a write that was cut short goes on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, other, _ := newConn(t)
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			_ = c.SetWriteDeadline(time.Now().Add(time.Minute))
			got := make(chan string)
			go func() {
				var all []byte
				buf := make([]byte, 1)
				for range 10 {
					time.Sleep(400 * time.Millisecond)
					n, _ := other.Read(buf)
					all = append(all, buf[:n]...)
				}
				got <- string(all)
			}()
			if n, err := c.Write([]byte("0123456789")); n != 10 || err != nil {
				t.Errorf("Write = %d, %v, want all 10", n, err)
			}
			if all := <-got; all != "0123456789" {
				t.Errorf("the other end got %q", all)
			}
		})
	})
	t.Run("a reader that never takes it ends a write", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, _, _ := newConn(t)
			begin := time.Now()
			_ = c.SetWriteDeadline(begin.Add(30 * time.Second))
			_, err := c.Write([]byte("x"))
			if took := time.Since(begin); !errors.Is(err, os.ErrDeadlineExceeded) || took != 30*time.Second {
				t.Errorf("Write = %v after %s, want the deadline after 30s", err, took)
			}
		})
	})
}
