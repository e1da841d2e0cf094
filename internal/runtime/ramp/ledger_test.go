package ramp

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTheLedgerRemembersADayInMinutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger()
		begin := time.Now()
		for range 30 * 60 * 6 { // thirty hours, a call every ten seconds
			l.Called(Call{Route: Cache, Side: Old, Took: 10 * time.Millisecond, Hit: true}, 1)
			l.Answered(Cache, 10*time.Millisecond)
			time.Sleep(10 * time.Second)
		}
		if n := len(l.slots); n > 26*60+30*6+1 {
			t.Errorf("%d slots, want minutes for 26 hours and finer ones for half an hour", n)
		}
		now := time.Now()
		s := l.Summary(now.Add(-24*time.Hour), now)
		if got := s.Routes[Cache].Old.Calls; got < 8630 || got > 8650 {
			t.Errorf("%d calls in 24 h, want 8640", got)
		}
		if s.Covered != 1 {
			t.Errorf("covered %v, want all of it", s.Covered)
		}
		p95, n := s.Routes[Cache].Answers.Percentile(0.95)
		if n < 8630 || p95 < 9600*time.Microsecond || p95 > 10400*time.Microsecond {
			t.Errorf("p95 = %s of %d, want 10ms within 4%%", p95, n)
		}
		if s := l.Summary(begin.Add(-time.Hour), begin.Add(time.Hour)); s.Covered > 0.01 {
			t.Errorf("covered %v of a time that is forgotten, want nothing", s.Covered)
		}
	})
}

func TestAWindowFromBeforeTheStartIsNotCovered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger()
		time.Sleep(time.Hour)
		now := time.Now()
		if got := l.Summary(now.Add(-4*time.Hour), now).Covered; got < 0.24 || got > 0.26 {
			t.Errorf("covered %v, want a quarter", got)
		}
	})
}

func TestAKeyIsShownByItsFirstWordAndAHash(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"cache:user:42": "cache:…#", "plain": "…:…#", "+4915112345678:sms": "…:…#", "": "…:…#",
	} {
		got := Redact(key)
		if len(got) != len(want)+8 || got[:len(want)] != want {
			t.Errorf("Redact(%q) = %q, want %q and 8 digits", key, got, want)
		}
	}
}
