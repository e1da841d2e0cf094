package limit

import (
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestWhatIsSparedIsDecidedHereExceptWhereTheLimitMustHold(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	l, err := New(Options{Client: client, Deadline: 10 * time.Second, Rules: []Rule{
		{Name: "open", Limit: 2, Period: time.Minute, By: ByUser, OnError: Open, Lease: LeaseOff},
		{Name: "closed", Limit: 2, Period: time.Minute, By: ByUser, OnError: Closed, Lease: LeaseOff},
	}})
	if err != nil {
		t.Fatal(err)
	}
	l.DecideHere(true)
	for i, want := range []bool{true, true, false} {
		r, err := l.Check(t.Context(), Request{Rule: "open", Subject: Subject{User: "u"}})
		if err != nil || r.Allowed != want || r.Commands != 0 {
			t.Errorf("check %d = %+v, %v; want allowed %v without a command", i, r, err, want)
		}
	}
	if r, err := l.Check(t.Context(), Request{Rule: "closed", Subject: Subject{User: "u"}}); err != nil || !r.Allowed || r.Commands == 0 {
		t.Errorf("a rule that must hold = %+v, %v; want it checked in Redis", r, err)
	}
	l.DecideHere(false)
	if r, err := l.Check(t.Context(), Request{Rule: "open", Subject: Subject{User: "u"}}); err != nil || !r.Allowed || r.Commands == 0 {
		t.Errorf("afterwards = %+v, %v; want it checked in Redis", r, err)
	}
}
