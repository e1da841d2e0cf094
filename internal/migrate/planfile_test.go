package migrate_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
)

func planned(t *testing.T) (migrate.PlanFile, string) {
	t.Helper()
	p := &phase{steps: marks(map[string]int{})}
	o := migrate.Outline{
		Target: mail, Losses: []migrate.Loss{{Field: "opts.timeout", Why: "<none & none>"}},
		KPIs: []migrate.KPI{{Name: "connections", Method: "CLIENT LIST"}},
	}
	one, err := migrate.PlanPhase(p, o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := migrate.NewPlanFile("abc", time.Date(2026, 11, 29, 1, 2, 3, 4, time.UTC), one)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := f.Write(&text); err != nil {
		t.Fatal(err)
	}
	return f, text.String()
}

func wantPlanFileError(t *testing.T, err error, part string) {
	t.Helper()
	if refused, ok := errors.AsType[*migrate.PlanFileError](err); !ok || !strings.Contains(refused.Why, part) {
		t.Errorf("got %v, want a *PlanFileError with %q", err, part)
	}
}

func TestAPlanIsReadBackAndAnEditedOneIsRefused(t *testing.T) {
	f, text := planned(t)
	got, err := migrate.ReadPlanFile(strings.NewReader(text))
	if err != nil || got.Hash != f.Hash {
		t.Fatalf("ReadPlanFile = %.12s, %v, want %.12s", got.Hash, err, f.Hash)
	}
	for name, c := range map[string]struct{ from, to, why string }{
		"another target":     {`"queue": "mail"`, `"queue": "sms"`, "changed"},
		"another option":     {`"to": "bullmq"`, `"to": "bullmq2"`, "changed"},
		"a loss less":        {`"opts.timeout"`, `"opts.lifo"`, "changed"},
		"something new":      {`"schema": 1`, `"schema": 1, "force": true`, "no plan"},
		"a newer schema":     {`"schema": 1`, `"schema": 2`, "schema 2"},
		"no schema":          {`"schema": 1`, `"schema": 0`, "no schema"},
		"another hash":       {f.Hash, strings.Repeat("0", 64), "changed"},
		"something after it": {"\n}\n", "\n}\n{}", "follows"},
	} {
		t.Run(name, func(t *testing.T) {
			edited := strings.Replace(text, c.from, c.to, 1)
			if edited == text {
				t.Fatalf("the plan has no %q:\n%s", c.from, text)
			}
			_, err := migrate.ReadPlanFile(strings.NewReader(edited))
			wantPlanFileError(t, err, c.why)
		})
	}
	for cut := range len(text) - 2 {
		if _, err := migrate.ReadPlanFile(strings.NewReader(text[:cut])); err == nil {
			t.Fatalf("the first %d bytes are a plan", cut)
		}
	}
}

func TestAPlanIsCheckedAgainstWhatWouldBeDoneNow(t *testing.T) {
	f, _ := planned(t)
	one, err := f.Of(mail)
	if err != nil {
		t.Fatal(err)
	}
	same := &phase{steps: marks(map[string]int{})}
	if err := one.Check(same, one.Outline); err != nil {
		t.Errorf("Check of the same = %v", err)
	}
	other := &phase{steps: marks(map[string]int{})[:2]}
	wantPlanFileError(t, one.Check(other, one.Outline), "would now be")
	more := one.Outline
	more.Losses = append(more.Losses, migrate.Loss{Field: "limiter"})
	wantPlanFileError(t, one.Check(same, more), "lose limiter")
	_, err = f.Of(migrate.Target{Phase: "phase1"})
	wantPlanFileError(t, err, "does not plan phase1")
}

func FuzzReadPlanFile(f *testing.F) {
	f.Add([]byte(`{"schema":1,"created":"2026-11-29T00:00:00Z","database":"","phases":[],"hash":""}`))
	f.Add([]byte(`{"schema":9}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := migrate.ReadPlanFile(bytes.NewReader(text))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := got.Write(&again); err != nil {
			t.Fatal(err)
		}
		if back, err := migrate.ReadPlanFile(&again); err != nil || back.Hash != got.Hash {
			t.Errorf("%q is a plan, and what is written of it gives %v", text, err)
		}
	})
}
