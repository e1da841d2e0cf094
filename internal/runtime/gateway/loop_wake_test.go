//go:build linux

package gateway

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A loop that can go on may end, and its descriptors may then be somebody else's: whoever wakes it must be
// done with them before.
func TestALoopGoesOnOnlyWhenWhoWakesItIsDone(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.Close(pipe[0]), unix.Close(pipe[1]) }()
	buf := make([]byte, 64<<10)
	for {
		if _, err := unix.Write(pipe[1], buf); err != nil {
			break // it is full: to wake takes until somebody reads
		}
	}
	if err := unix.SetNonblock(pipe[1], false); err != nil {
		t.Fatal(err)
	}
	l := &loop{poll: &poller{event: pipe[1]}, asleep: true}
	told := make(chan struct{})
	go func() {
		defer close(told)
		l.tell(&turn{})
	}()
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		if !l.mu.TryLock() {
			continue
		}
		waking := !l.asleep
		l.mu.Unlock()
		if waking {
			t.Error("the loop can go on while it is being woken")
			break
		}
	}
	if _, err := unix.Read(pipe[0], buf); err != nil {
		t.Fatal(err)
	}
	<-told
}
