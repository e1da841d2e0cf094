package mover

import (
	"strings"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestAJobThatIsCalledLikeTheLogsOrTheLockOfAnotherMovesLikeAny(t *testing.T) {
	for _, size := range []int{1, 50} {
		ctx := t.Context()
		client := redistest.Start(t).Client(t)
		from, to := queueQ()
		ids := []string{"5", "5:logs", "6", "6:lock", "7"}
		var jobs []placed
		for _, id := range ids {
			jobs = append(jobs, placed{id: id, container: "wait"})
		}
		before := put(ctx, client, from, jobs)
		client.RPush(ctx, from.Key("7:logs"), "a line", "another")
		r := mustMove(ctx, t, client, Options{From: from, To: to, ChunkSize: size, ActiveTimeout: -1})
		if len(r.Skipped)+len(r.Held) > 0 {
			t.Errorf("skipped %v, held %v", r.Skipped, r.Held)
		}
		if got := strings.Join(client.LRange(ctx, to.Key("wait"), 0, -1).Val(), " "); got != "7 6:lock 6 5:logs 5" {
			t.Errorf("wait is %q", got)
		}
		sameHashes(ctx, t, client, to, before)
		if got := client.LRange(ctx, to.Key("7:logs"), 0, -1).Val(); len(got) != 2 {
			t.Errorf("the logs of job 7 are %q", got)
		}
	}
}

func TestTheLogsOfAJobNeverReplaceAJobAtTheTarget(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	from, to := queueQ()
	put(ctx, client, from, []placed{{id: "5", container: "wait"}})
	client.RPush(ctx, from.Key("5:logs"), "a line")
	there := put(ctx, client, to, []placed{{id: "5:logs", container: "wait"}})
	mustMove(ctx, t, client, Options{From: from, To: to, ActiveTimeout: -1})
	sameHashes(ctx, t, client, to, there)
}
