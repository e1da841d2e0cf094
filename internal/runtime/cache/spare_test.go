package cache_test

import (
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/cache"
)

func TestInMemoryAloneNothingIsSentAndWhatWasWrittenIsThere(t *testing.T) {
	fake, client := newFake(t)
	c := open(t, cache.Options{Client: client, BinarySafe: true})
	c.MemoryOnly(true)
	if _, err := c.Set(t.Context(), "page:1", []byte("hello"), cache.SetOptions{}); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Get(t.Context(), "page:1"); err != nil || string(r.Value) != "hello" {
		t.Errorf("Get = %+v, %v; want what was written", r, err)
	}
	if n := fake.count("set", "get", "mget", "evalsha"); n != 0 {
		t.Errorf("%d commands were sent, want none", n)
	}
	c.MemoryOnly(false)
	mustSet(t, c, "page:2", "there", cache.SetOptions{})
	if _, ok := fake.value("cache:page:2"); !ok && fake.count("set") == 0 {
		t.Error("nothing is written afterwards")
	}
}
