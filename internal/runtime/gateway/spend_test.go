package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// TestSpend compares what is counted with what the Redis itself has counted, for requests of every form.
func TestSpend(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	counts := meter.New()
	up, err := upstream.Open(t.Context(), upstream.Options{URL: srv.URL(), Shared: true, Meter: counts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = up.Close() })
	m, err := up.Mux()
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Patient(gateway.Options{Mux: m, Bell: up.Bell(), Open: true}, patience))
	if err != nil {
		t.Fatal(err)
	}
	url := serve(t, g)
	ask(t, "GET", url+"/ping", "") // connects, which is not the gateway's to pay
	if err := srv.Client(t).ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]string{
		{"/set/k/v", ""},
		{"/", `["GET","k"]`},
		{"/pipeline", `[["INCR","n"],["INCR","n"],["LPUSH","k","x"],["FLUSHALL"],["CLIENT","SETINFO","LIB-NAME","x"]]`},
		{"/multi-exec", `[["INCR","n"],["GET","n"]]`},
		{"/multi-exec", `[["INCR","n"],["BLPOP","l",1]]`},
		{"/", `["SCAN",0,"WITHTYPE"]`},
		{"/", `["EVAL","return 1",0]`},
		{"/", `["SET","k"`},
		{"/blpop/l/1", ""},
	} {
		ask(t, "POST", url+r[0], r[1])
	}
	got := map[string]int64{}
	for _, row := range counts.Snapshot().Rows {
		if row.Component == meter.Gateway {
			got[row.Command] = row.Sent
		}
	}
	got["ping"]-- // from before
	if got["ping"] == 0 {
		delete(got, "ping")
	}
	want := map[string]int64{}
	info := srv.Client(t).Info(t.Context(), "commandstats").Val()
	for line := range strings.SplitSeq(info, "\r\n") {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !ok || strings.HasPrefix(name, "config") || name == "hello" || name == "info" {
			continue // the observer's own
		}
		calls, _, _ := strings.Cut(rest, ",")
		n, err := strconv.ParseInt(calls, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		rejected := int64(0)
		if _, r, ok := strings.Cut(line, "rejected_calls="); ok {
			r, _, _ = strings.Cut(r, ",")
			rejected, _ = strconv.ParseInt(r, 10, 64)
		}
		if n+rejected > 0 {
			want[name] = n + rejected
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counted differently from the Redis (-redis +ours):\n%s", diff)
	}
}

// TestConnections holds 300 HTTP connections, a subscription and MONITOR: the Redis sees three connections.
func TestConnections(t *testing.T) {
	t.Parallel()
	url, _, srv := startUpstream(t, gateway.Options{})
	follow(t, "POST", url+"/subscribe/x").want("data: subscribe,x,1")
	follow(t, "POST", url+"/monitor").want(`data: "OK"`)
	web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 300}}
	t.Cleanup(web.CloseIdleConnections)
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			for range 3 {
				if err := get(t.Context(), web, fmt.Sprintf("%s/get/k%d?_token=reader", url, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	clients := srv.Client(t).ClientList(t.Context()).Val()
	if n := strings.Count(clients, "\n") - 1; n != 3 {
		t.Errorf("the Redis has %d connections of the gateway, want 3:\n%s", n, clients)
	}
}

func get(ctx context.Context, web *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := web.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != 200 {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}
