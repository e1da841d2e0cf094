package sidecar

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/queue/shed"
)

func TestWhatIsGivenUpWhenTheBudgetRunsOutAndThatItIsRemembered(t *testing.T) {
	conf := configured(t, nil, `version: 1
budgets: {commands: {per_month: 1000}}
limits: {deadline: 1m}
queues:
  list:
    - {name: pay, mode: lease, criticality: critical, depends_on: [ledger]}
    - {name: ledger, mode: lease}
    - {name: news, mode: lease}
`)
	open := func() *world {
		s, err := New(conf, Options{Embedded: true})
		if err != nil {
			t.Fatal(err)
		}
		w, err := s.assemble(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	admitted := func(w *world) (names string) {
		for _, name := range []string{"pay", "ledger", "news"} {
			if w.admitJobs(name, 0) {
				names += " " + name
			}
		}
		return strings.TrimSpace(names)
	}
	w := open()
	now := time.Now()
	for _, step := range []struct {
		spent int64
		level shed.Level
		runs  string
	}{
		{10, shed.Normal, "pay ledger news"},
		{960, shed.Tight, "pay ledger"}, // a critical queue depends on ledger
		{1000, shed.Exhausted, ""},
	} {
		w.books.month.Store(&monthRead{at: now, commands: step.spent, own: w.books.own()})
		w.budget.decide(now)
		plan := w.budget.current()
		if plan.Level != step.level || admitted(w) != step.runs {
			t.Errorf("with %d of 1000 spent: level %s and %q run, want %s and %q", step.spent, plan.Level, admitted(w), step.level, step.runs)
		}
		before := w.spent().Commands
		r, err := w.limit.Check(t.Context(), limit.Request{Rule: "api", Subject: limit.Subject{User: "u"}})
		if err != nil || !r.Allowed {
			t.Errorf("Check = %+v, %v", r, err)
		}
		if sent := w.spent().Commands - before; (sent == 0) != (step.level >= shed.Tight) {
			t.Errorf("at level %s a check sent %d commands", step.level, sent)
		}
	}
	if err := w.budget.keep(now); err != nil {
		t.Fatal(err)
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	w = open()
	defer func() { _ = w.close() }()
	w.budget.decide(now)
	if plan := w.budget.current(); plan.Level != shed.Exhausted || !plan.Guessed {
		t.Errorf("after a restart that does not know the count: level %s, guessed %v; want exhausted", plan.Level, plan.Guessed)
	}
}

func TestAnApplicationBringsItsJobsBackWhileTheSidecarStops(t *testing.T) {
	r := run(t, configured(t, nil, someQueues(1)), Options{Embedded: true})
	url := "http://" + r.API + "/v1/queues/q0/"
	post[any](t, url+"jobs", `{"id":"one"}`, 201)
	got := post[leased](t, url+"lease", `{"wait_ms":20000}`, 200)
	if len(got.Jobs) != 1 {
		t.Fatalf("leased %+v, want the job", got)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	eventually(t, "it says that it stops", func() bool {
		code, body := ask(t, http.MethodGet, "http://"+r.API+"/readyz", "")
		return code == 503 && strings.Contains(body, `"stopping":true`)
	})
	if code, body := ask(t, http.MethodPost, url+"lease", `{"wait_ms":20000}`, "Content-Type", "application/json"); code != 503 || !strings.Contains(body, "stopping") {
		t.Errorf("lease = %d %s, want 503", code, body)
	}
	post[struct{}](t, url+"leases/"+got.Jobs[0].Lease+"/complete", `{}`, 204)
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second): // less than it would wait for the job
		t.Fatal("it waits although the job has ended")
	}
}
