package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/journal"
)

// A readLog is a journal that nobody writes, which counts how often it is read and calls enough when that is absurd.
type readLog struct {
	entries []journal.Entry
	reads   int
	enough  func()
}

func (l *readLog) Append(context.Context, journal.Record) error {
	return errors.New("nothing may be written")
}

func (l *readLog) Entries() []journal.Entry {
	if l.reads++; l.reads > 10_000 {
		l.enough()
	}
	return l.entries
}

func TestAHostThatWaitsDoesNotSpinBecauseItMayLeaveLater(t *testing.T) {
	begin := journal.Entry{Seq: 1, Kind: journal.Begin, Detail: json.RawMessage(`{"plan":"p","steps":["phase3.soak"]}`)}
	for name, c := range map[string]struct {
		entries []journal.Entry
		begin   bool
	}{
		"paused in its last soak":       {[]journal.Entry{begin}, false},
		"paused before it begins again": {[]journal.Entry{begin, {Seq: 2, Kind: journal.Complete}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				may := make(chan struct{})
				close(may)
				log := &readLog{entries: c.entries, enough: cancel}
				h := &host{
					opts:    HostOptions{Begin: c.begin, Stay: true, Leave: may},
					session: &Session{Lease: leaseOf(LeaseOptions{}.withDefaults())},
					engine:  NewEngine(log), pace: &Pace{}, changed: make(chan struct{}, 1),
					wishes: Wishes{Intents: map[Verb]Intent{IntentPause: {Verb: IntentPause, By: "ann", Expires: time.Now().Add(week)}}},
				}
				ended := make(chan error, 1)
				go func() { ended <- h.loop(ctx) }()
				time.Sleep(time.Hour + time.Second)
				synctest.Wait()
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Errorf("it ends with %v, want it to wait until it is told to end", err)
				}
				if want := 1 + int(time.Hour/lookForApproval); log.reads > want {
					t.Errorf("it looked %d times in an hour, want %d", log.reads, want)
				}
			})
		})
	}
}
