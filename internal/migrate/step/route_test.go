package step

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

func TestSchedulerIDsAreReadFromFlags(t *testing.T) {
	for name, tt := range map[string]struct {
		values []string
		want   SchedulerIDs
		fails  string
	}{
		"none":                             {nil, SchedulerIDs{}, ""},
		"by name":                          {[]string{"name"}, SchedulerIDs{ByName: true}, ""},
		"one, whose key has equals signs":  {[]string{"a=b:::1000=id"}, SchedulerIDs{Named: map[string]string{"a=b:::1000": "id"}}, ""},
		"a word that is neither":           {[]string{"hash"}, SchedulerIDs{}, `"hash"`},
		"a key without an id":              {[]string{"k="}, SchedulerIDs{}, `"k="`},
		"an id without a key":              {[]string{"=id"}, SchedulerIDs{}, `"=id"`},
		"one key with two different names": {[]string{"k=a", "k=b"}, SchedulerIDs{}, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseSchedulerIDs(tt.values)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("ParseSchedulerIDs(%q) = %v, want an error about %s", tt.values, err, tt.fails)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("ParseSchedulerIDs(%q): %v (-want +got):\n%s", tt.values, err, diff)
			}
		})
	}
}

func TestASchedulerIsCalledWhatTheApplicationWillCallIt(t *testing.T) {
	own := mover.Repeat{Key: "digest:daily:::0 3 * * *", Name: "digest", JobID: "daily", Hash: "0123"}
	plain := mover.Repeat{Key: "clean::::60000", Name: "clean", Hash: "4567"}
	for name, tt := range map[string]struct {
		ids    SchedulerIDs
		repeat mover.Repeat
		want   string
	}{
		"its own jobId first":              {SchedulerIDs{ByName: true}, own, "daily"},
		"else Bull's digits":               {SchedulerIDs{}, plain, "4567"},
		"or its name, when asked for":      {SchedulerIDs{ByName: true}, plain, "clean"},
		"what the operator says above all": {SchedulerIDs{Named: map[string]string{own.Key: "x"}}, own, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tt.ids.choose(tt.repeat); got != tt.want {
				t.Errorf("choose = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTwoRepeatablesOfOneNameAndUnknownOnesBlockThePlan(t *testing.T) {
	repeats := []mover.Repeat{{Key: "a", TargetKey: "same"}, {Key: "b", TargetKey: "same"}, {Key: "c", TargetKey: "other"}}
	got := SchedulerIDs{Named: map[string]string{"zz": "id"}}.problems(repeats)
	if len(got) != 2 || got[0].Rule != "collision" || got[1].Rule != "unknown-repeatable" {
		t.Errorf("problems = %+v, want one collision and one unknown repeatable", got)
	}
	if err := Blocked(mover.Plan{Problems: got}); err == nil {
		t.Error("Blocked = nil, want an error")
	}
	if err := Blocked(mover.Plan{Problems: []mover.Problem{{Rule: "missing-hash"}}}); err != nil {
		t.Errorf("Blocked by a problem of one job = %v, want nil", err)
	}
}

func TestARequestSaysWhereItGoes(t *testing.T) {
	for name, tt := range map[string]struct {
		r    Request
		want string
	}{
		"to another prefix":                {Request{Queue: "q"}, "bullmq"},
		"in place":                         {Request{Queue: "q", InPlace: true}, "bull"},
		"a hash tag stays in its slot":     {Request{Queue: "q", Prefix: "{bull}"}, "{bull}:mq"},
		"wherever the operator says it to": {Request{Queue: "q", ToPrefix: "jobs"}, "jobs"},
		"back to Bull":                     {Request{Queue: "q", Prefix: "bullmq", Engine: mover.Bull}, "bull"},
		"back to Bull, in its slot":        {Request{Queue: "q", Prefix: "{bull}:mq", Engine: mover.Bull}, "{bull}"},
		"back to Bull, in place":           {Request{Queue: "q", Prefix: "jobs", Engine: mover.Bull, InPlace: true}, "jobs"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tt.r.withDefaults(); got.ToPrefix != tt.want || got.Validate() != nil {
				t.Errorf("goes to %q (%v), want %q", got.ToPrefix, got.Validate(), tt.want)
			}
		})
	}
	for name, r := range map[string]Request{
		"no queue":                        {},
		"the same prefix, not in place":   {Queue: "q", ToPrefix: "bull"},
		"another prefix, though in place": {Queue: "q", InPlace: true, ToPrefix: "mq"},
		"a BullMQ that is none":           {Queue: "q", Major: 4},
		"Bull with BullMQ's priorities":   {Queue: "q", Prefix: "bullmq", Engine: mover.Bull, Order: mover.ByPriority},
		"Bull with a BullMQ's version":    {Queue: "q", Prefix: "bullmq", Engine: mover.Bull, Major: 5},
		"Bull with BullMQ's schedulers":   {Queue: "q", Prefix: "bullmq", Engine: mover.Bull, Schedulers: SchedulerIDs{ByName: true}},
		"Bull in place of asynq":          {Queue: "q", Prefix: "asynq", Engine: mover.Bull, InPlace: true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := r.Validate(); err == nil {
				t.Error("Validate = nil, want an error")
			}
		})
	}
}

func TestTheNearestNamesComeFirst(t *testing.T) {
	got := nearest("mial", []string{"webhooks", "mail", "sms", "mail2", "mail"})
	want := []string{"mail", "mail2", "sms", "webhooks"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
