package portable_test

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/portable"
	"github.com/redisopt/redisopt/internal/runtime/embedded"
)

func TestTheEmbeddedRedisSealsAndUnlinksKeysOfEveryTypeAndSize(t *testing.T) {
	server, err := embedded.Start(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), DisableIdentity: true})
	t.Cleanup(func() { _ = client.Close() })
	ctx := t.Context()
	client.Set(ctx, "string", "x", 0)
	client.RPush(ctx, "list", "a", "b")
	client.SAdd(ctx, "set", "a", "b")
	client.HSet(ctx, "hash", "f", "1", "g", "2")
	client.ZAdd(ctx, "zset", redis.Z{Score: 0.1, Member: "a"})
	client.XAdd(ctx, &redis.XAddArgs{Stream: "stream", ID: "5-1", Values: []string{"a", "b"}})
	client.XGroupCreate(ctx, "stream", "g", "0")
	client.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "g", Consumer: "c", Streams: []string{"stream", ">"}})
	for i := range 1200 {
		client.HSet(ctx, "large", fmt.Sprint(i), i)
	}
	all := names(t, client)
	seals := wholly(t, client, all)
	client.HSet(ctx, "large", "600", "other")
	client.XAck(ctx, "stream", "g", "5-1")
	answers, err := portable.Unlink(ctx, client, all, seals)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range all {
		want := ""
		if name == "large" || name == "stream" {
			want = portable.Changed
		}
		if answers[i] != want {
			t.Errorf("Unlink(%q) = %q, want %q", name, answers[i], want)
		}
	}
}
