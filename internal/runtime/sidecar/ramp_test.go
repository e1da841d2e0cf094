package sidecar

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/api"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A twin is two replicas between two Redises, and the hand that changes the ramp.
type twin struct {
	old, next *redistest.Server
	replicas  [2]*running
	hand      *control.Control
}

func newTwin(t *testing.T) *twin {
	t.Helper()
	w := &twin{old: redistest.Start(t), next: redistest.Start(t)}
	for i := range w.replicas {
		w.replicas[i] = run(t, configured(t, map[string]string{
			"REDIS_URL": w.old.URL(), "REDISOPT_RAMP_URL": w.next.URL(), "REDISOPT_REPLICA": fmt.Sprint("r", i),
		}, "cache:\n  l1_bytes: 0\n  deadline: 1m\nlimits:\n  deadline: 1m\n  rules:\n    ten: {limit: 10, period: 1h, lease: \"off\"}\n    drip: {limit: 10, period: 10h, lease: \"off\", algorithm: token-bucket}\n    was: {limit: 10, period: 1h, legacy: \"former:{user}\"}\n"), Options{})
	}
	var err error
	if w.hand, err = control.Open(control.Options{Client: w.old.Client(t)}); err != nil {
		t.Fatal(err)
	}
	return w
}

// ramp changes the document for all replicas, and waits until all of them say so.
func (w *twin) ramp(t *testing.T, ramps map[string]float64) time.Duration {
	t.Helper()
	began := time.Now()
	if err := w.hand.Update(t.Context(), func(d *control.Document) error { d.Ramps = ramps; return nil }); err != nil {
		t.Fatal(err)
	}
	w.wait(t, ramps)
	return time.Since(began)
}

func (w *twin) wait(t *testing.T, ramps map[string]float64) {
	t.Helper()
	for _, r := range w.replicas {
		eventually(t, "the replica follows", func() bool {
			_, text := ask(t, http.MethodGet, "http://"+r.API+"/v1/ramp", "")
			var s api.RampState
			if err := json.Unmarshal([]byte(text), &s); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			for _, route := range s.Routes {
				if route.Percent != ramps[route.Name] || route.Mirror != ramps[route.Name+".mirror"] {
					return false
				}
			}
			return true
		})
	}
}

func (w *twin) put(t *testing.T, replica int, key, value string) {
	t.Helper()
	code, text := ask(t, http.MethodPut, "http://"+w.replicas[replica].API+"/v1/cache/keys/"+key, `"`+value+`"`, "Content-Type", "application/json")
	if code >= 300 {
		t.Fatalf("PUT %s = %d: %s", key, code, text)
	}
}

func (w *twin) get(t *testing.T, replica int, key string) string {
	t.Helper()
	_, text := ask(t, http.MethodGet, "http://"+w.replicas[replica].API+"/v1/cache/keys/"+key, "")
	return text
}

func (w *twin) allowed(t *testing.T, replica int, user string) bool {
	t.Helper()
	return w.allows(t, replica, "ten", user)
}

func (w *twin) allows(t *testing.T, replica int, rule, user string) bool {
	t.Helper()
	_, text := ask(t, http.MethodPost, "http://"+w.replicas[replica].API+"/v1/limit/check", `{"rule":"`+rule+`","subject":{"user":"`+user+`"}}`, "Content-Type", "application/json")
	return strings.Contains(text, `"allowed":true`)
}

func keys(t *testing.T, c *redis.Client, pattern string) int {
	t.Helper()
	all, err := c.Keys(t.Context(), pattern).Result()
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestTwoReplicasTakeKeysFromOneRedisToTheOtherAndBack(t *testing.T) {
	t.Parallel()
	w := newTwin(t)
	old, next := w.old.Client(t), w.next.Client(t)

	w.put(t, 0, "user:before", "1")
	if n := keys(t, next, "*"); n != 0 {
		t.Errorf("%d keys on the new side before the ramp, want nothing sent there", n)
	}
	mirror := map[string]float64{"cache.mirror": 100, "limit.mirror": 100, "cache": 0, "limit": 0}
	w.ramp(t, mirror)
	for i := range 40 {
		w.put(t, i%2, fmt.Sprint("user:", i), fmt.Sprint(i))
	}
	// A key that the new side never had is found on the old one when it has moved.
	took := w.ramp(t, map[string]float64{"cache.mirror": 100, "limit.mirror": 100, "cache": 100, "limit": 100})
	t.Logf("both replicas followed the ramp %s after it was set", took.Round(time.Millisecond))
	if got := w.get(t, 1, "user:before"); got != `"1"` {
		t.Errorf("user:before = %s on the new side, want what the old one has", got)
	}
	for i := range 40 {
		if got := w.get(t, i%2, fmt.Sprint("user:", i)); got != fmt.Sprintf(`"%d"`, i) {
			t.Fatalf("user:%d = %s after the move", i, got)
		}
	}

	// What a subject has used goes with it: five before the move back, five after.
	count := 0
	for i := range 20 {
		if i == 5 {
			w.ramp(t, mirror)
		}
		if w.allowed(t, i%2, "u1") {
			count++
		}
	}
	if count != 10 {
		t.Errorf("%d admitted over the move, want the limit of 10", count)
	}
	// The migration then takes its routes out of the document, and what only the new side counted still does.
	w.ramp(t, map[string]float64{"cache.mirror": 100, "limit.mirror": 100, "cache": 100, "limit": 100})
	for i := range 6 {
		if !w.allowed(t, i%2, "u2") {
			t.Fatal("want 6 of 10 admitted on the new side")
		}
	}
	w.ramp(t, mirror)
	w.ramp(t, map[string]float64{})
	count = 0
	for i := range 20 {
		if w.allowed(t, i%2, "u1") {
			t.Error("u1 was admitted again after the rollback, want the limit to be used up")
		}
		if w.allowed(t, i%2, "u2") {
			count++
		}
	}
	if count != 4 {
		t.Errorf("%d of u2 admitted after the rollback, want the 4 that were left", count)
	}
	if keys(t, old, "*limit*") == 0 || keys(t, next, "*limit*") == 0 {
		t.Error("want the limit counted on both sides in this test")
	}
	for i, addr := range []string{w.old.Addr, w.next.Addr} {
		c := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		most := []int{2 * 2, 2 * 1}[i]
		eventually(t, fmt.Sprintf("CLIENT LIST of side %d has at most %d connections of two replicas", i, most), func() bool {
			list, err := c.ClientList(t.Context()).Result() // which sees the end of one late
			if err != nil {
				t.Fatal(err)
			}
			return strings.Count(list, "\n")-[]int{3, 2}[i] <= most // without the test's own
		})
		_ = c.Close()
	}
}

// TestTwoReplicasGiveNobodyMoreThanABucket has both replicas ask for the same callers while the ramp goes there
// and back and ends.
func TestTwoReplicasGiveNobodyMoreThanABucket(t *testing.T) {
	t.Parallel()
	w := newTwin(t)
	var admitted [4]atomic.Int64
	done := make(chan struct{})
	var group sync.WaitGroup
	for replica := range w.replicas {
		group.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				// Callers with much left and callers with nothing left change sides.
				if user := i % len(admitted); int(admitted[user].Load()) < 3*user+1 || user == 3 {
					if w.allows(t, replica, "drip", fmt.Sprint("b", user)) {
						admitted[user].Add(1)
					}
				}
			}
		})
	}
	mirror := map[string]float64{"limit.mirror": 100, "limit": 0}
	for range 3 {
		w.ramp(t, mirror)
		w.ramp(t, map[string]float64{"limit.mirror": 100, "limit": 100})
		w.ramp(t, mirror)
		w.ramp(t, map[string]float64{})
	}
	close(done)
	group.Wait()
	for user := range admitted {
		for i := range 12 {
			if w.allows(t, i%2, "drip", fmt.Sprint("b", user)) {
				admitted[user].Add(1)
			}
		}
		if n := admitted[user].Load(); n != 10 {
			t.Errorf("caller %d was admitted %d times, want the bucket of 10", user, n)
		}
	}
	_, text := ask(t, http.MethodGet, "http://"+w.replicas[0].API+"/metrics", "")
	if !strings.Contains(text, `redisopt_limit_buckets_fetched_total{outcome="carried",rule="drip"}`) &&
		!strings.Contains(text, `redisopt_limit_buckets_fetched_total{rule="drip",outcome="carried"}`) {
		t.Error("the metrics do not say how many buckets were fetched")
	}
}

func TestWhatAFormerLimiterCountsOnTheOldSideIsSeenByReplicasOfTheNewOne(t *testing.T) {
	t.Parallel()
	w := newTwin(t)
	for i := range 4 {
		if err := w.old.Client(t).ZAdd(t.Context(), "former:f", redis.Z{Score: float64(time.Now().UnixMilli()), Member: i}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	admitted := 0
	for i := range 20 {
		switch i {
		case 2:
			w.ramp(t, map[string]float64{"limit.mirror": 100, "limit": 100})
		case 4:
			w.ramp(t, map[string]float64{"limit": 100}) // as after complete
		}
		if w.allows(t, i%2, "was", "f") {
			admitted++
		}
	}
	// After complete what the old side counted of ours is seen no more: 2 units.
	if admitted != 8 {
		t.Errorf("%d admitted, want 6 beside the 4 of the application, and the 2 that complete forgets", admitted)
	}
	_, text := ask(t, http.MethodGet, "http://"+w.replicas[0].API+"/v1/ramp", "")
	var s api.RampState
	if err := json.Unmarshal([]byte(text), &s); err != nil || len(s.Former) != 1 || s.Former[0].Rule != "was" || s.Former[0].Why == "" {
		t.Errorf("GET /v1/ramp = %s, %v; want the rule named that reads there", text, err)
	}
}

func TestDecisionsAboutLimitsAreComparedInTheShadowAndCountedOnceOnly(t *testing.T) {
	t.Parallel()
	w := newTwin(t)
	w.ramp(t, map[string]float64{"limit": 0, "limit.mirror": 0, "limit.shadow": 100})
	compared := func() map[string]int64 {
		_, text := ask(t, http.MethodGet, "http://"+w.replicas[0].API+"/v1/ramp/stats", "")
		var s api.RampStats
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		for _, r := range s.Routes {
			if r.Name == "limit" {
				if r.Differences > 0 || r.New.Errors > 0 {
					t.Fatalf("%d differences, %d errors: %s", r.Differences, r.New.Errors, text)
				}
				return r.Compared
			}
		}
		return nil
	}
	n := 0
	eventually(t, "decisions are compared", func() bool {
		n++
		for i, rule := range []string{"ten", "drip"} { // with the other replica counting as well
			w.allows(t, i, rule, fmt.Sprint("c", n%4))
			w.allows(t, 1-i, rule, fmt.Sprint("c", n%4))
		}
		return compared()["match"] >= 5
	})
	if n := keys(t, w.next.Client(t), "redisopt:limit*"); n != 0 {
		t.Errorf("%d limits are counted on the new side, want none before the ramp", n)
	}
	_, text := ask(t, http.MethodGet, "http://"+w.replicas[0].API+"/metrics", "")
	if !strings.Contains(text, "redisopt_ramp_compared_total") || !strings.Contains(text, `class="match"`) {
		t.Error("the metrics do not say what was compared")
	}
}

// TestARampGoesBackToNothingOnEveryReplica measures the way back with everything up, and with both Redises
// down, by each replica's own override.
func TestARampGoesBackToNothingOnEveryReplica(t *testing.T) {
	t.Parallel()
	w := newTwin(t)
	all := map[string]float64{"cache.mirror": 100, "limit.mirror": 100, "cache": 100, "limit": 100}
	back := map[string]float64{"cache.mirror": 100, "limit.mirror": 100, "cache": 0, "limit": 0}
	w.ramp(t, all)
	for i := range 20 {
		w.put(t, i%2, fmt.Sprint("user:", i), "new")
	}
	if took := w.ramp(t, back); took > 10*time.Second {
		t.Errorf("back to 0 took %s, want under 10 s", took)
	} else {
		t.Logf("back to 0 on both replicas after %s", took.Round(time.Millisecond))
	}
	for i := range 20 {
		if got := w.get(t, i%2, fmt.Sprint("user:", i)); got != `"new"` {
			t.Errorf("user:%d = %s on the old side, want what was written on the new one", i, got)
		}
	}

	w.ramp(t, all)
	w.next.Kill(t)
	for i := range 20 { // the new side is gone, and every read is answered by the old one
		if got := w.get(t, i%2, fmt.Sprint("user:", i)); got != `"new"` {
			t.Errorf("user:%d = %s while the new side is down", i, got)
		}
	}
	w.old.Kill(t) // no document can be changed any more
	began := time.Now()
	for _, r := range w.replicas {
		code, text := ask(t, http.MethodPost, "http://"+r.API+"/v1/control", `{"ramps":{"cache":0,"limit":0},"kill":["phase1"],"reason":"both are down"}`, "Content-Type", "application/json")
		if code != http.StatusOK {
			t.Fatalf("override = %d: %s", code, text)
		}
	}
	w.wait(t, map[string]float64{})
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the emergency took %s, want under 10 s", took)
	} else {
		t.Logf("back to 0 on both replicas %s after the emergency began, with both Redises down", took.Round(time.Millisecond))
	}
}

func TestFollowingARampCostsNoCommandOfTheUpstream(t *testing.T) {
	t.Parallel()
	w := newTwin(t)
	w.ramp(t, map[string]float64{"cache": 5})
	client := w.old.Client(t)
	total := func() string {
		info, err := client.InfoMap(t.Context(), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(info["Commandstats"]["cmdstat_get"])
	}
	// A replica may still read the change that it knows already, when it is told of it; not each time.
	eventually(t, "200 readings of the ramp without a GET on the upstream", func() bool {
		before := total()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.replicas[0].API+"/v1/ramp", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/event-stream")
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		for range 200 {
			if code, _ := ask(t, http.MethodGet, "http://"+w.replicas[0].API+"/v1/ramp", ""); code != http.StatusOK {
				t.Fatal(code)
			}
		}
		return total() == before
	})
}
