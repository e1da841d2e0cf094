package connections

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fromFixture attributes a captured CLIENT LIST; the observer's line counts as ours. The processes of
// the captures are long gone, so everything is one host.
func fromFixture(t *testing.T, file string, channels ...string) *Report {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return fromList(t, string(raw), channels...)
}

func fromList(t *testing.T, list string, channels ...string) *Report {
	t.Helper()
	a, err := New(nil, Options{OwnName: "observer"})
	if err != nil {
		t.Fatal(err)
	}
	a.lookup = func([]socket) (map[socket]owner, error) { return nil, nil }
	clients, bad := ParseClientList(list)
	if len(bad) > 0 {
		t.Fatalf("malformed lines: %q", bad)
	}
	r := a.report([]*view{{clients: clients, own: -1, channels: channels, server: Server{maxClients: 10000}}})
	a.judge(r)
	return r
}

func byRole(r *Report) map[string]int {
	m := make(map[string]int)
	for _, c := range r.Connections {
		if !c.Own {
			m[strings.TrimSpace(fmt.Sprintf("%s %s", c.Library, c.Role))]++
		}
	}
	return m
}

// elevenQueues are the queue names of the captures.
func elevenQueues() []string {
	return []string{
		"adaptive-sync", "batch-notifications", "calendar-sync", "google-contacts-sync", "notification-reminder",
		"suggestion-generation", "suggestion-regeneration", "token-health-reminder", "token-refresh",
		"webhook-health-check", "webhook-renewal",
	}
}

func delayedOf(queues []string) []string {
	var out []string
	for _, q := range queues {
		out = append(out, "bull:"+q+":delayed")
	}
	return out
}

func TestCapturedClientListsAreAttributed(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		channels   []string
		want       map[string]int
	}{
		{
			"eleven plain Bull queues are 33 connections", "client-list-bull.txt", delayedOf(elevenQueues()),
			map[string]int{"bull worker": 11, "bull subscriber": 11, "bull queue-client": 11},
		},
		{
			"eleven shared Bull queues are 13", "client-list-bull-shared.txt", delayedOf(elevenQueues()),
			map[string]int{"bull worker": 11, "bull subscriber": 1, "bull shared-client": 1},
		},
		{
			"eleven plain BullMQ queues are 33, and one QueueEvents", "client-list-bullmq6.txt", nil,
			map[string]int{"bullmq worker": 11, "bullmq worker-client": 11, "bullmq queue-client": 11, "bullmq queue-events": 1},
		},
		{
			"eleven shared BullMQ 5 queues are 12, and one QueueEvents", "client-list-bullmq5-shared.txt", nil,
			map[string]int{"bullmq worker": 11, "bullmq shared-client": 1, "bullmq queue-events": 1},
		},
		{
			"eleven shared BullMQ 6 queues are 12, and one QueueEvents", "client-list-bullmq6-shared.txt", nil,
			map[string]int{"bullmq worker": 11, "bullmq shared-client": 1, "bullmq queue-events": 1},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := fromFixture(t, tc.file, tc.channels...)
			if diff := cmp.Diff(tc.want, byRole(r)); diff != "" {
				t.Errorf("roles (-want +got):\n%s", diff)
			}
			if r.Unknown != 0 || r.Own != 1 {
				t.Errorf("unknown %d, own %d, want 0 and 1", r.Unknown, r.Own)
			}
			var queues []string
			for _, q := range r.Queues {
				queues = append(queues, q.Queue)
			}
			if diff := cmp.Diff(elevenQueues(), queues); diff != "" {
				t.Errorf("queues (-want +got):\n%s", diff)
			}
			for _, c := range r.Connections {
				if c.Why == "" || c.Confidence == "" {
					t.Errorf("connection %d has no reason: %+v", c.ID, c)
				}
			}
		})
	}
}

func TestPlainBullQueuesHoldThreeEach(t *testing.T) {
	r := fromFixture(t, "client-list-bull.txt", delayedOf(elevenQueues())...)
	for _, q := range r.Queues {
		if q.Connections != 3 || q.Workers != 1 || q.Library != LibraryBull {
			t.Errorf("queue %s = %+v, want 3 Bull connections with 1 worker", q.Queue, q)
		}
	}
	for _, c := range r.Connections {
		if c.Role == RoleSubscriber && c.Confidence != Arithmetic {
			t.Errorf("subscriber %d is %s, want %s", c.ID, c.Confidence, Arithmetic)
		}
	}
}

// what a phase leaves is computed from roles, and says with which numbers.
func TestPhasesAreComputedFromMeasuredRoles(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("testdata", "client-list-bull.txt"))
	if err != nil {
		t.Fatal(err)
	}
	list := string(raw)
	for i, name := range []string{"cache", "rate-limiter", "sms-limiter", "pool-1", "pool-2"} {
		list += fmt.Sprintf("id=%d addr=127.0.0.1:%d laddr=127.0.0.1:16401 name=%s age=9 idle=1 flags=N sub=0 psub=0 cmd=get\n", 900+i, 50000+i, name)
	}
	r := fromList(t, list, delayedOf(elevenQueues())...)
	got := make(map[string]int)
	for _, p := range r.Phases {
		got[p.Phase+": "+p.Target] = p.Left
		if !strings.Contains(p.Formula, fmt.Sprint(p.Left)) || len(p.Inputs) == 0 {
			t.Errorf("%s: formula %q with inputs %v does not show %d", p.Phase, p.Formula, p.Inputs, p.Left)
		}
		if p.Removed != r.Total-p.Left {
			t.Errorf("%s removed %d, want %d", p.Phase, p.Removed, r.Total-p.Left)
		}
	}
	want := map[string]int{
		"now: as measured":                                38,
		"phase1: cache, limiters and pool over HTTP":      33,
		"phase2: queues paused":                           33,
		"phase3: BullMQ, connection options per queue":    33,
		"phase3: BullMQ, one shared instance per process": 12,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("phases (-want +got):\n%s", diff)
	}
}

func TestPhaseTwoClosesOnlyTheQueuesNamed(t *testing.T) {
	r := fromFixture(t, "client-list-bull.txt", delayedOf(elevenQueues())...)
	eight := elevenQueues()[:8]
	for _, p := range phases(r, eight) {
		if p.Phase == "phase2" && p.Left != 9 {
			t.Errorf("phase 2 with eight queues closed leaves %d, want 9: %s", p.Left, p.Formula)
		}
	}
}

// far below the limit, the limit is not to blame.
func TestExhaustionIsNotBlamedFarBelowTheLimit(t *testing.T) {
	r := fromFixture(t, "client-list-bull.txt")
	if !slices.ContainsFunc(rules(r), func(s string) bool { return s == "connection-limit-far" }) {
		t.Errorf("findings %q lack connection-limit-far for 33 of 10000", rules(r))
	}
	a, _ := New(nil, Options{OwnName: "observer", Limit: 40, Max: 5})
	a.count(&Report{})
	r.Connections = slices.Clone(r.Connections)
	r.Total, r.Own, r.Unknown = 0, 0, 0
	a.count(r)
	a.judge(r)
	for _, want := range []string{"connection-limit-near", "connections-over-max"} {
		if !slices.Contains(rules(r), want) {
			t.Errorf("33 of 40, at most 5: findings %q lack %s", rules(r), want)
		}
	}
	if slices.Contains(rules(r), "connection-limit-far") {
		t.Error("33 of 40 is called far from the limit")
	}
}

func rules(r *Report) []string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, f.Rule)
	}
	return out
}
