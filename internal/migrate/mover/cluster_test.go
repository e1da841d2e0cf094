package mover

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestAWorkerOnAnyNodeOfAClusterIsSeen(t *testing.T) {
	ctx := t.Context()
	var addrs []string
	var nodes []*redis.Client
	for i := range 3 {
		s := redistest.Start(t, "--cluster-enabled", "yes", "--cluster-config-file", fmt.Sprintf("n%d.conf", i))
		u, _ := url.Parse(s.URL())
		addrs = append(addrs, u.Host)
		c := s.Client(t)
		nodes = append(nodes, c)
		if err := c.ClusterAddSlotsRange(ctx, []int{0, 5461, 10923}[i], []int{5460, 10922, 16383}[i]).Err(); err != nil {
			t.Fatal(err)
		}
		if err := c.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
			t.Fatal(err)
		}
	}
	deadline, tick := time.After(90*time.Second), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for ok, looks := 0, 0; ok < 3; looks++ {
		ok = 0
		if looks%100 == 0 { // again every ten seconds, as a node that is slow to answer is forgotten
			for _, a := range addrs[1:] {
				h, p, _ := strings.Cut(a, ":")
				nodes[0].ClusterMeet(ctx, h, p)
			}
		}
		for _, n := range nodes {
			if strings.Contains(n.ClusterInfo(ctx).Val(), "cluster_state:ok") {
				ok++
			}
		}
		select {
		case <-deadline:
			t.Fatal("no cluster")
		case <-tick.C:
		}
	}
	e := Endpoint{Bull, 4, "{bull}", "q"}
	up, err := upstream.Open(ctx, upstream.Options{Cluster: addrs, Component: meter.Migrate})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = up.Close() }()
	client := up.Client()
	// A worker, on the node that has the queue.
	slot := nodes[0].ClusterKeySlot(ctx, e.Key("wait")).Val()
	owner := int(slot) / 5461
	w := redis.NewClient(&redis.Options{Addr: addrs[min(owner, 2)], ClientName: "{bull}:" + base64.StdEncoding.EncodeToString([]byte("q")), ReadTimeout: time.Minute})
	defer func() { _ = w.Close() }()
	if err := w.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	missed := 0
	for range 20 {
		who, known, err := attached(ctx, client, e)
		if err != nil {
			t.Fatal(err)
		}
		if known && len(who) == 0 {
			missed++
		}
	}
	if missed > 0 {
		t.Errorf("%d of 20 looks saw no worker (client is %T)", missed, client)
	}
	// A job without a container, wherever its node is.
	client.HSet(ctx, e.Key("orphan"), plainHash("orphan")...)
	m, err := New(client, Options{From: Endpoint{BullMQ, 6, "{bull}:mq", "q"}, To: e, Reverse: true})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for range 20 {
		v, err := m.Verify(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(v.Mismatches) == 1 {
			seen++
		}
	}
	if seen != 20 {
		t.Errorf("%d of 20 verifications saw the stray job", seen)
	}
}
