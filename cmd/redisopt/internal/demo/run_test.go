package demo

import (
	"strings"
	"testing"
	"time"
)

func TestTheJourneyLosesNothing(t *testing.T) {
	r, err := Run(t.Context(), Options{Window: time.Second, Progress: func(s string) {
		if t.Log(s); len(s) > 64 {
			t.Errorf("%q has %d characters, want at most 64: with how long it took, a line has 80", s, len(s))
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range r.Queues {
		t.Logf("%s there %+v", q.Name, q.There)
		t.Logf("%s back %+v", q.Name, q.Back)
		for name, p := range map[string]Passage{"there": q.There, "back": q.Back} {
			if !p.Complete() {
				t.Errorf("queue %s, %s: %+v, want every job found once and none left", q.Name, name, p)
			}
		}
	}
	for _, d := range r.Comparison.Unexplained {
		t.Errorf("unexplained difference: %s", d)
	}
	if !r.Passed() {
		t.Error("Passed() = false")
	}
	if r.Capture.Jobs != 44 || r.Capture.Queues != 3 {
		t.Errorf("capture = %+v, want 44 jobs in 3 queues", r.Capture)
	}
	if r.Connections.Bull != 33 || r.Connections.Total != 36+poolSize || r.Connections.Unknown != 0 {
		t.Errorf("connections = %+v, want 33 of Bull, %d in all, none unknown", r.Connections, 36+poolSize)
	}
	if r.Added.There < leastAdded || r.Added.Back < leastAdded {
		t.Errorf("added live = %+v, want at least %d each way", r.Added, leastAdded)
	}
	var names []string
	for _, p := range r.Phases {
		names = append(names, p.Name)
		t.Logf("%+v", p)
		if !p.Passed || p.There.Moved == 0 || p.Back.Moved == 0 || p.There.Cost.Commands == 0 || p.Back.Cost.Commands == 0 {
			t.Errorf("%s = %+v, want something moved there and back, at a price", p.Name, p)
		}
		if p.There.Cost.BytesOut == 0 || p.Back.Cost.BytesIn == 0 {
			t.Errorf("%s: its cost lacks bytes: %+v, %+v", p.Name, p.There.Cost, p.Back.Cost)
		}
		if p.Name != "phase 3" && p.Keys == 0 {
			t.Errorf("%s: nothing was compared", p.Name)
		}
	}
	if got, want := strings.Join(names, ", "), "phase 1, phase 2, phase 3, phase 3, own engine, phase 4"; got != want {
		t.Errorf("phases %q, want %q", got, want)
	}
	t.Logf("%+v", r.Comparison)
	t.Logf("%+v %+v", r.Cost, r.Commands)
}
