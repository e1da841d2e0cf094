package cache_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/cache"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// unreachable is a client of nothing: rules are applied before anything is sent.
func unreachable(t *testing.T) redis.UniversalClient { return dial(t, "127.0.0.1:1") }

func TestKeys(t *testing.T) {
	t.Run("ids cannot pretend to be parts or patterns", func(t *testing.T) {
		seen := map[string]string{}
		for _, id := range []string{"a:b", "a%3Ab", "a", "*", "%2A", "a b", "a\x00b", "é", "\xff", "%FF", "{x}", "", "a*", `a"b`, "😀"} {
			key := cache.KeyOf("user", id, "profile")
			if strings.Count(key, ":") != 2 || strings.ContainsAny(key, "*?[]{} ") {
				t.Errorf("KeyOf of id %q = %q, want 3 parts without patterns", id, key)
			}
			if other, taken := seen[key]; taken {
				t.Errorf("ids %q and %q share the key %q", id, other, key)
			}
			seen[key] = id
		}
	})
	c := open(t, cache.Options{Client: unreachable(t)})
	for _, tt := range []struct{ name, key string }{
		{"an empty key", ""},
		{"an id that is missing", "user::profile"},
		{"an id that is missing at the end", "user:"},
		{"a star", "user:*"},
		{"a question mark", "user:a?"},
		{"a blank", "user:a b"},
		{"a bracket", "user:[a]"},
		{"a tag of Cluster", "user:{a}"},
		{"a percent sign that escapes nothing", "user:100%"},
		{"lower-case escapes", "user:%2a"},
		{"control characters", "user:\n"},
		{"what is not UTF-8", "user:\xff"},
		{"a namespace with signs", "~tag:user:1"},
		{"more than 1024 bytes", "user:" + strings.Repeat("x", 1024)},
	} {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			if _, err := c.Get(t.Context(), tt.key); !errors.Is(err, cache.ErrKey) {
				t.Errorf("Get(%q): got %v, want ErrKey", tt.key, err)
			}
		})
	}
}

func TestDeny(t *testing.T) {
	c := open(t, cache.Options{Client: unreachable(t), Namespaces: map[string]cache.Namespace{
		"device": {Codec: cache.JSON, Allow: []string{"token"}},
		"doc":    {Codec: cache.JSON},
		"bin":    {Codec: cache.MsgPack},
	}})
	packed, err := cache.MsgPack.Encode(map[string]any{"user": map[string]any{"apiKeys": []string{"k"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ key, value, name string }{
		{"user:1:password", "x", "password"},
		{"reset-token:1", "x", "reset-token"},
		{"doc:1", `{"a":{"b":[{"accessToken":"x"}]}}`, "a.b.accessToken"},
		{"doc:1", `[{"API_KEY":1}]`, "API_KEY"},
		{"doc:1", `{"x":[{"a":1},{"user":{"passwords":[]}}]}`, "x.user.passwords"},
		{"page:1", ` {"client_secret":"x"}`, "client_secret"},
		{"bin:1", string(packed), "user.apiKeys"},
		{"device:1", `{"token":"allowed","otp":"1"}`, "otp"},
	} {
		t.Run(tt.key+" "+tt.name+" is refused", func(t *testing.T) {
			var denied *cache.DeniedError
			_, err := c.Set(t.Context(), tt.key, []byte(tt.value), cache.SetOptions{})
			if !errors.As(err, &denied) || denied.Name != tt.name {
				t.Fatalf("got %v, want %q denied", err, tt.name)
			}
		})
	}
	for _, tt := range []struct{ key, value string }{
		{"doc:1", `{"tokenizer":1,"compass":2,"passive":"password is a word here"}`},
		{"doc:1", `["password"]`},
		{"device:1", `{"token":"allowed"}`},
		{"page:1", `{"password": not JSON`},
		{"page:1", "password"},
	} {
		t.Run(tt.key+" "+tt.value+" is allowed", func(t *testing.T) {
			if _, err := c.Set(t.Context(), tt.key, []byte(tt.value), cache.SetOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTimesToLive(t *testing.T) {
	key := cache.Key{ID: "k1", Secret: []byte(strings.Repeat("s", 32))}
	c := open(t, cache.Options{
		Client: unreachable(t), Jitter: -1, Keys: []cache.Key{key},
		Namespaces: map[string]cache.Namespace{"old": {Codec: cache.IORedisJSON}, "user": {OwnerParts: 1, Class: "USER_PROFILE"}},
	})
	for _, tt := range []struct {
		name    string
		key     string
		o       cache.SetOptions
		want    time.Duration
		clamped bool
	}{
		{"the default is an hour", "page:1", cache.SetOptions{}, 3600 * time.Second, false},
		{"a class has its own", "page:1", cache.SetOptions{Class: "SUGGESTIONS"}, 300 * time.Second, false},
		{"contacts live half an hour", "page:1", cache.SetOptions{Class: "CONTACTS_LIST"}, 1800 * time.Second, false},
		{"a session lives a day", "session:1", cache.SetOptions{}, 86400 * time.Second, false},
		{"a writer's own is kept exactly", "page:1", cache.SetOptions{TTL: 7 * time.Second, Class: "SUGGESTIONS"}, 7 * time.Second, false},
		{"more than a day is shortened", "page:1", cache.SetOptions{TTL: 48 * time.Hour}, 24 * time.Hour, true},
		{"stale time counts to the maximum", "page:1", cache.SetOptions{TTL: 20 * time.Hour, StaleFor: 20 * time.Hour}, 20 * time.Hour, true},
		{"what is not there is remembered briefly", "page:1", cache.SetOptions{Negative: true}, 30 * time.Second, false},
		{"no expiry when asked for", "page:1", cache.SetOptions{NoExpiry: true}, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := c.Set(t.Context(), tt.key, nil, tt.o)
			if err != nil || r.TTL != tt.want || r.Clamped != tt.clamped {
				t.Errorf("got %s, clamped %t, %v; want %s, clamped %t", r.TTL, r.Clamped, err, tt.want, tt.clamped)
			}
		})
	}
	if n := c.Stats().Namespaces["page"].Clamped; n != 2 {
		t.Errorf("got %d clamped in the counts, want 2", n)
	}
	for _, tt := range []struct {
		name, key string
		o         cache.SetOptions
		want      error
	}{
		{"a negative time to live", "page:1", cache.SetOptions{TTL: -1}, cache.ErrClass},
		{"less than a millisecond", "page:1", cache.SetOptions{TTL: time.Microsecond}, cache.ErrClass},
		{"an unknown class", "page:1", cache.SetOptions{Class: "NONE"}, cache.ErrClass},
		{"the class of the limiters", "page:1", cache.SetOptions{Class: "RATE_LIMIT"}, cache.ErrClass},
		{"a sensitive class in another namespace", "page:1", cache.SetOptions{Class: "SESSION"}, cache.ErrClass},
		{"another class in a sensitive namespace", "session:1", cache.SetOptions{Class: "SUGGESTIONS"}, cache.ErrClass},
		{"no expiry and a time to live", "page:1", cache.SetOptions{NoExpiry: true, TTL: time.Hour}, cache.ErrClass},
		{"no expiry where an owner may be invalidated", "user:1:x", cache.SetOptions{NoExpiry: true}, cache.ErrClass},
		{"tags on a shared key", "old:1", cache.SetOptions{Tags: []string{"a"}}, cache.ErrClass},
		{"another codec for a shared key", "old:1", cache.SetOptions{Codec: cache.Raw}, cache.ErrValue},
		{"the codec of shared keys elsewhere", "page:1", cache.SetOptions{Codec: cache.IORedisJSON}, cache.ErrValue},
		{"text where JSON is promised", "old:1", cache.SetOptions{}, cache.ErrValue},
		{"too many tags", "page:1", cache.SetOptions{Tags: strings.Split("abcdefghijklmnopq", "")}, cache.ErrKey},
		{"a tag that is none", "page:1", cache.SetOptions{Tags: []string{"*"}}, cache.ErrKey},
	} {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			if _, err := c.Set(t.Context(), tt.key, []byte("hello"), tt.o); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	t.Run("a sensitive entry without a key to encrypt it is refused", func(t *testing.T) {
		c := open(t, cache.Options{Client: unreachable(t)})
		if _, err := c.Set(t.Context(), "session:1", nil, cache.SetOptions{}); !errors.Is(err, cache.ErrClass) {
			t.Errorf("got %v, want ErrClass", err)
		}
	})
	t.Run("what the provider would not take is refused before it is sent", func(t *testing.T) {
		c := open(t, cache.Options{Client: unreachable(t), MaxRequestBytes: 10_000, CompressFrom: -1})
		var size *cache.SizeError
		if _, err := c.Set(t.Context(), "page:1", make([]byte, 8000), cache.SetOptions{}); !errors.As(err, &size) {
			t.Errorf("got %v, want a SizeError: base64 makes it larger", err)
		}
		if _, err := c.Set(t.Context(), "page:1", make([]byte, 7000), cache.SetOptions{}); err != nil {
			t.Error(err)
		}
	})
}

func TestOptionsSayAllThatIsWrong(t *testing.T) {
	_, err := cache.New(cache.Options{
		Prefix: "a:b", DefaultTTL: time.Hour, MaxTTL: time.Minute, Keys: []cache.Key{{ID: "a b", Secret: []byte("short")}},
		Classes: map[string]cache.Class{"X": {TTL: time.Second, Sensitive: true}},
		Namespaces: map[string]cache.Namespace{
			"bad ns": {}, "a": {Codec: "xml"}, "b": {Class: "NONE"}, "c": {Codec: cache.IORedisJSON, Guard: true},
			"d": {Codec: cache.IORedisJSON, Class: "X"},
		},
		Warmers: []cache.Warmer{{Every: -1}},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"client: missing", "prefix:", "default_ttl:", "keys[0].id:", "keys[0].secret: got 5 bytes", "bad ns", "namespaces.a.codec",
		"namespaces.b.class", "namespaces.c:", "namespaces.d.class", "warmers[0]: items: missing",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "short") {
		t.Error("a secret is in the error")
	}
}

func TestSensitiveEntries(t *testing.T) {
	s := redistest.Start(t)
	raw := s.Client(t)
	ctx := t.Context()
	k1, k2 := cache.Key{ID: "k1", Secret: []byte(strings.Repeat("1", 32))}, cache.Key{ID: "k2", Secret: []byte(strings.Repeat("2", 32))}
	names := []byte("sixteen bytes or more")
	client := dial(t, s.Addr)
	ring := func(keys ...cache.Key) *cache.Cache {
		return open(t, cache.Options{Client: client, Deadline: patience, Keys: keys, KeySecret: names})
	}
	c := ring(k1)
	mustSet(t, c, "session:+491701234567", `{"token":"hunter2"}`, cache.SetOptions{Tags: []string{"session:+491701234567"}})
	keys, err := raw.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		kept, _ := raw.Get(ctx, key).Result()
		if strings.Contains(key+kept, "1701234567") || strings.Contains(kept, "hunter2") {
			t.Errorf("secrets can be read in %q: %q", key, kept)
		}
	}
	t.Run("is read by whoever has the key, and never from memory", func(t *testing.T) {
		r := mustGet(t, c, "session:+491701234567")
		wantHit(t, "session", r, `{"token":"hunter2"}`)
		if r.Source != cache.FromUpstream {
			t.Errorf("got it from %s, want upstream", r.Source)
		}
	})
	t.Run("is read after a rotation, and written with the new key", func(t *testing.T) {
		rotated := ring(k2, k1)
		wantHit(t, "session", mustGet(t, rotated, "session:+491701234567"), `{"token":"hunter2"}`)
		mustSet(t, rotated, "session:2", "x", cache.SetOptions{})
		wantMiss(t, "a replica without the new key", mustGet(t, c, "session:2"))
		if n := c.Stats().Namespaces["session"].UnknownKey; n != 1 {
			t.Errorf("got %d of unknown keys, want 1", n)
		}
		wantMiss(t, "one without the old key", mustGet(t, ring(k2), "session:+491701234567"))
	})
	t.Run("does not open under another key's name", func(t *testing.T) {
		mustSet(t, c, "session:alice", "alice's", cache.SetOptions{})
		mustSet(t, c, "session:mallory", "mallory's", cache.SetOptions{})
		mine := keysOf(t, raw, "cache:session:*")
		for _, from := range mine {
			for _, to := range mine {
				kept, _ := raw.Get(ctx, from).Result()
				if from != to {
					raw.Set(ctx, to, kept, 0)
				}
			}
		}
		hits := 0
		for _, name := range []string{"alice", "mallory", "2"} {
			if r := mustGet(t, c, "session:"+name); r.Hit && !strings.HasPrefix(string(r.Value), name) {
				t.Errorf("session of %s is %q", name, r.Value)
			} else if r.Hit {
				hits++
			}
		}
		if hits > 1 {
			t.Errorf("%d opened, want at most the one that was copied last", hits)
		}
	})
	t.Run("is deleted by a pattern of whole parts", func(t *testing.T) {
		mustSet(t, c, "session:42:a", "x", cache.SetOptions{})
		mustSet(t, c, "session:42:b", "x", cache.SetOptions{})
		if _, err := c.PlanDelete(ctx, "session:4*"); !errors.Is(err, cache.ErrKey) {
			t.Errorf("got %v, want ErrKey", err)
		}
		plan, err := c.PlanDelete(ctx, "session:42:*")
		if err != nil || plan.EstimatedKeys != 2 {
			t.Fatalf("got %+v, %v; want 2 keys", plan, err)
		}
		if r, err := c.DeletePattern(ctx, plan); err != nil || r.Deleted != 2 {
			t.Errorf("got %+v, %v; want 2 deleted", r, err)
		}
	})
}

func keysOf(t *testing.T, c *redis.Client, pattern string) []string {
	t.Helper()
	keys, err := c.Keys(t.Context(), pattern).Result()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
