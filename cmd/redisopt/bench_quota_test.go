package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisopt/redisopt/internal/inspect/upstash/upstashtest"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestWhatMayBeSpentShrinksWithWhatOthersSpendAndNeverGrows(t *testing.T) {
	var spent int64
	g := &quotaGuard{limit: 1000, used: 400, spent: func() int64 { return spent }}
	g.allowed.Store(600)
	for _, step := range []struct{ spent, used, want int64 }{
		{100, 500, 600}, // all that was used meanwhile is ours
		{200, 550, 600}, // and half of ours is not counted yet
		{200, 700, 500}, // others have used 100
		{300, 800, 500},
		{300, 1200, 100}, // nothing is left, and more was spent than may be
		{300, 400, 100},
	} {
		spent = step.spent
		g.learn(step.used)
		if got := g.allowed.Load(); got != step.want {
			t.Errorf("with %d spent here and %d by all, %d may be spent, want %d", step.spent, step.used, got, step.want)
		}
	}
}

func TestTheBudgetIsAskedForAgainDuringARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &quotaGuard{limit: 1000, used: 400, spent: func() int64 { return 10 }}
		g.allowed.Store(600)
		ctx, cancel := context.WithTimeout(t.Context(), 95*time.Second)
		defer cancel()
		asked, failed := 0, 0
		g.watch(ctx, quotaEvery, func(context.Context) (int64, error) {
			if asked++; asked == 2 {
				return 0, errors.New("nobody there")
			}
			return 700, nil
		}, func(error) { failed++ })
		if asked != 3 || failed != 1 || g.allowed.Load() != 310 {
			t.Errorf("asked %d times, %d failed, %d may be spent; want 3, 1 and 310", asked, failed, g.allowed.Load())
		}
	})
}

func TestABenchmarkKeepsToTheMonthsBudget(t *testing.T) {
	server := redistest.Start(t)
	api := upstashtest.Start(t)
	for _, test := range []struct {
		name     string
		perMonth int
		code     int
		says     string
	}{
		{"enough is left", 1_000_000_000, exitOK, ""},
		{"not enough is left", 100, exitTryLater, "the month's budget leaves 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conf := filepath.Join(t.TempDir(), "redisopt.yaml")
			text := fmt.Sprintf("version: 1\nbudgets: {commands: {per_month: %d}}\n", test.perMonth)
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var rec recorder
			s := rec.streams()
			env := map[string]string{
				"REDIS_URL": server.URL(), "UPSTASH_EMAIL": upstashtest.Email, "UPSTASH_API_KEY": upstashtest.Key, "UPSTASH_API_URL": api.URL, "UPSTASH_DATABASE": upstashtest.ID,
			}
			s.env = func(name string) (string, bool) {
				v, ok := env[name]
				return v, ok
			}
			code := run(t.Context(), []string{"bench", "cache-set", "--config", conf, "--duration", "300ms", "--warm-up", "0s", "--keys", "5", "-o", "json"}, s)
			if code != test.code || !strings.Contains(rec.err.String(), test.says) {
				t.Errorf("exit %d, stderr %s; want %d and %q", code, rec.err.String(), test.code, test.says)
			}
			if ran := strings.Contains(rec.out.String(), "cache-set"); ran != (test.code == exitOK) {
				t.Errorf("it ran: %v; exit %d", ran, code)
			}
		})
	}
}

// TestAPlanThatIsUsedUpDuringARunKeepsWhatWasMeasured is exit 75, as before a run.
func TestAPlanThatIsUsedUpDuringARunKeepsWhatWasMeasured(t *testing.T) {
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if n++; n > 30 {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprint(w, `{"error":"ERR max requests limit exceeded. Limit: 500000, Usage: 500001."}`)
			return
		}
		_, _ = fmt.Fprint(w, `[{"result":"OK"}]`)
	}))
	defer server.Close()
	out := filepath.Join(t.TempDir(), "part.json")
	var rec recorder
	s := rec.streams()
	s.env = func(name string) (string, bool) {
		v, ok := map[string]string{"UPSTASH_REDIS_REST_URL": server.URL, "UPSTASH_REDIS_REST_TOKEN": "secret-token"}[name]
		return v, ok
	}
	// The run ends when the plan is used up: its duration is only how long that may take.
	code := run(t.Context(), []string{"bench", "cache-set", "--rate", "50", "--duration", "1m", "--warm-up", "0s", "--keys", "5", "--in-flight", "1", "--out", out, "-o", "json"}, s)
	if code != exitTryLater || !strings.Contains(rec.err.String(), "max requests limit exceeded") {
		t.Errorf("exit %d, stderr %s; want 75 and the answer", code, rec.err.String())
	}
	if _, err := os.Stat(out); err != nil || !strings.Contains(rec.out.String(), `"stopped": "the commands of the target's plan are used up"`) {
		t.Errorf("%v, stdout %s; want what was measured before", err, rec.out.String())
	}
}
