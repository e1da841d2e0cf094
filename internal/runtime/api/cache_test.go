package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/cache"
)

func keyPath(key string) string { return "/v1/cache/keys/" + url.PathEscape(key) }

func TestAValueComesBackAsItWasSet(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	for name, tt := range map[string]struct{ key, media, value string }{
		"an object":                {"user:1:profile", "application/json", `{"name":"Ann","tags":["<b>","&"],"n":12345678901234567890}`},
		"zero":                     {"user:1:zero", "application/json", `0`},
		"false":                    {"user:1:false", "application/json", `false`},
		"an empty string":          {"user:1:empty", "application/json", `""`},
		"null":                     {"user:1:null", "application/json", `null`},
		"bytes that are no text":   {"blob:1", "application/octet-stream", "\x00\xff\xfe\r\n\x80"},
		"no bytes":                 {"blob:2", "application/octet-stream", ""},
		"bytes that look like one": {"blob:3", "application/octet-stream", `{"a":1}`},
		"a key with an odd part":   {cache.KeyOf("user", "a:b*/c d", "ü"), "application/json", `1`},
		"a key of another program": {"shared:1", "application/json", `{"a":1}`},
	} {
		path := keyPath(tt.key)
		r := ask(t, a, call{method: http.MethodPut, path: path, body: tt.value, header: map[string]string{"Content-Type": tt.media}})
		w := decode[WriteResult](t, r, http.StatusOK)
		if !w.Stored || w.Key != tt.key || w.ValueBytes != len(tt.value) || w.Commands < 1 || w.TTLSeconds <= 0 {
			t.Errorf("%s: set = %+v, want it stored", name, w)
		}
		r = ask(t, a, call{path: path})
		if r.StatusCode != http.StatusOK || r.body != tt.value || r.Header.Get("Content-Type") != tt.media {
			t.Errorf("%s: get = %d %q as %s, want %q as %s", name, r.StatusCode, r.body, r.Header.Get("Content-Type"), tt.value, tt.media)
		}
		if r.Header.Get(cacheHeader) != "hit" || r.Header.Get("Age") == "" || r.Header.Get("ETag") == "" || r.Header.Get(sourceHeader) == "" {
			t.Errorf("%s: headers %v, want a hit with its age, tag and source", name, r.Header)
		}
	}
}

func TestAReadSaysWhetherItIsAHitAMissOrKnownNotToBe(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	r := ask(t, a, call{path: keyPath("user:1:x")})
	if p := r.problem(t); r.StatusCode != 404 || p.Code != "cache_miss" || r.Header.Get(cacheHeader) != "miss" {
		t.Errorf("a miss = %d %s %v, want 404 miss", r.StatusCode, r.body, r.Header)
	}
	if r := ask(t, a, call{method: http.MethodPut, path: keyPath("user:1:x") + "?negative=true", header: map[string]string{"Content-Type": "application/octet-stream"}}); r.StatusCode != 200 {
		t.Fatalf("set negative = %d %s", r.StatusCode, r.body)
	}
	r = ask(t, a, call{path: keyPath("user:1:x")})
	if p := r.problem(t); r.StatusCode != 404 || p.Code != "cache_negative" || r.Header.Get(cacheHeader) != "negative" || r.Header.Get("Age") == "" {
		t.Errorf("a negative hit = %d %s %v, want 404 negative with its age", r.StatusCode, r.body, r.Header)
	}
}

func TestAReadIsConditional(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	set := func(v string) { ask(t, a, call{method: http.MethodPut, path: keyPath("k:1"), body: v}) }
	set(`1`)
	tag := ask(t, a, call{path: keyPath("k:1")}).Header.Get("ETag")
	condition := call{path: keyPath("k:1"), header: map[string]string{"If-None-Match": tag}}
	if r := ask(t, a, condition); r.StatusCode != http.StatusNotModified || r.body != "" || r.Header.Get("Content-Type") != "" && strings.Contains(r.Header.Get("Content-Type"), "problem") && r.body != "" {
		t.Errorf("an unchanged value = %d %q, want 304", r.StatusCode, r.body)
	}
	set(`2`)
	if r := ask(t, a, condition); r.StatusCode != 200 || r.body != "2" {
		t.Errorf("a changed value = %d %q, want it", r.StatusCode, r.body)
	}
}

func TestTimesToLiveAreTakenAndShortened(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	for query, want := range map[string]struct {
		least, most float64
		clamped     bool
	}{
		"ttl_seconds=60":        {60, 60, false},
		"ttl_seconds=0.5":       {0.5, 0.5, false},
		"ttl_seconds=999999":    {86400, 86400, true},
		"ttl_seconds=1e300":     {86400, 86400, true},
		"ttl_seconds=Inf":       {86400, 86400, true},
		"class=SUGGESTIONS":     {270, 300, false},
		"":                      {3240, 3600, false},
		"no_expiry=true":        {0, 0, false},
		"tags=user:1,project:2": {3240, 3600, false},
	} {
		r := ask(t, a, call{method: http.MethodPut, path: keyPath("k:1") + "?" + query, body: `1`})
		w := decode[WriteResult](t, r, http.StatusOK)
		if w.TTLSeconds < want.least || w.TTLSeconds > want.most || w.Clamped != want.clamped {
			t.Errorf("%q: fresh for %v s, clamped %v; want %v to %v, %v", query, w.TTLSeconds, w.Clamped, want.least, want.most, want.clamped)
		}
	}
}

func TestAWriteDoesNotOvertakeADelete(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	token := ask(t, a, call{path: keyPath("k:1")}).Header.Get(tokenHeader)
	if token == "" {
		t.Fatal("a miss has no token")
	}
	if r := ask(t, a, call{method: http.MethodDelete, path: keyPath("k:1")}); r.StatusCode != 200 {
		t.Fatalf("delete = %d %s", r.StatusCode, r.body)
	}
	r := ask(t, a, call{method: http.MethodPut, path: keyPath("k:1") + "?token=" + url.QueryEscape(token), body: `"old"`})
	if w := decode[WriteResult](t, r, http.StatusOK); w.Stored || w.Reason != "superseded" {
		t.Errorf("a value that was read before a delete = %s, want it superseded", r.body)
	}
	if r := ask(t, a, call{path: keyPath("k:1")}); r.StatusCode != 404 {
		t.Errorf("after it = %d %s, want a miss", r.StatusCode, r.body)
	}
	r = ask(t, a, call{method: http.MethodPut, path: keyPath("k:1") + "?token=made-up", body: `1`})
	if p := r.problem(t); r.StatusCode != 422 {
		t.Errorf("a token that is none = %d %+v, want 422", r.StatusCode, p)
	}
}

func TestManyKeysAreOneRequest(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	blob := base64.StdEncoding.EncodeToString([]byte{0, 255, 128})
	r := ask(t, a, call{method: http.MethodPost, path: "/v1/cache/set", body: `{"entries":[
		{"key":"user:1:a","value":{"n":1},"ttl_seconds":60},
		{"key":"user:1:b","value":null,"tags":["user:1"]},
		{"key":"user:1:c","negative":true},
		{"key":"blob:1","value_base64":"` + blob + `"},
		{"key":"shared:2","value":[1,2]}]}`})
	set := decode[struct{ Entries []WriteResult }](t, r, 200)
	for _, e := range set.Entries {
		if !e.Stored && e.Key != "" {
			t.Errorf("set %s = %+v, want it stored", e.Key, e)
		}
	}
	if len(set.Entries) != 5 {
		t.Fatalf("set = %s, want 5 results", r.body)
	}
	r = ask(t, a, call{method: http.MethodPost, path: "/v1/cache/get", body: `{"keys":["blob:1","user:1:a","user:1:b","user:1:c","user:1:d","shared:2","user:1:a"]}`})
	got := decode[struct{ Entries []CacheEntry }](t, r, 200)
	var status []string
	for _, e := range got.Entries {
		status = append(status, e.Key+"="+string(e.Status)+":"+string(e.Value)+base64.StdEncoding.EncodeToString(e.ValueBase64))
	}
	want := "[blob:1=hit:" + blob + ` user:1:a=hit:{"n":1} user:1:b=hit:null user:1:c=negative: user:1:d=miss: shared:2=hit:[1,2] user:1:a=hit:{"n":1}]`
	if fmt.Sprint(status) != want {
		t.Errorf("get = %v\nwant  %s", status, want)
	}

	r = ask(t, a, call{method: http.MethodPost, path: "/v1/cache/delete", body: `{"keys":["blob:1","shared:2","nothing:1"]}`})
	if d := decode[Deletion](t, r, 200); !d.Done || d.Deleted != 2 || d.Commands != 1 {
		t.Errorf("delete of 3 = %+v, want 2 gone for 1 command", d)
	}
}

func TestABatchThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	big := `"` + strings.Repeat("x", 1<<19) + `"`
	if r := ask(t, a, call{method: http.MethodPut, path: keyPath("k:1"), body: big}); r.StatusCode != 200 {
		t.Fatalf("set = %d %s", r.StatusCode, r.body)
	}
	r := ask(t, a, call{method: http.MethodPost, path: "/v1/cache/get", body: `{"keys":[` + strings.Repeat(`"k:1",`, 70) + `"k:1"]}`})
	if p := r.problem(t); r.StatusCode != 422 || p.Code != "reply_too_large" {
		t.Errorf("35 MiB of values = %d, want them refused", r.StatusCode)
	}
}

func TestATagEndsEveryEntryThatCarriesIt(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	for _, key := range []string{"user:1:a", "user:1:b", "user:2:a"} {
		ask(t, a, call{method: http.MethodPut, path: keyPath(key), body: `1`})
	}
	ask(t, a, call{method: http.MethodPut, path: keyPath("list:1") + "?tags=user:1", body: `1`})
	r := ask(t, a, call{method: http.MethodPost, path: "/v1/cache/invalidate", body: `{"tags":["user:1"]}`})
	if d := decode[Deletion](t, r, 200); !d.Done || d.Commands != 1 {
		t.Errorf("invalidate = %+v, want it done for 1 command", d)
	}
	for key, want := range map[string]int{"user:1:a": 404, "user:1:b": 404, "list:1": 404, "user:2:a": 200} {
		if r := ask(t, a, call{path: keyPath(key)}); r.StatusCode != want {
			t.Errorf("%s after it = %d, want %d", key, r.StatusCode, want)
		}
	}
}

func TestAPatternSaysItsPriceBeforeItIsPaid(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	for i := range 20 {
		ask(t, a, call{method: http.MethodPut, path: keyPath(fmt.Sprintf("list:%d", i)), body: `1`})
	}
	pattern := func(extra string) answer {
		return ask(t, a, call{method: http.MethodPost, path: "/v1/cache/delete-pattern", body: `{"pattern":"list:*"` + extra + `}`})
	}
	type result struct {
		Plan              struct{ EstimatedKeys, EstimatedCommands int64 }
		Done              bool
		Deleted, Commands int64
	}
	if got := decode[map[string]any](t, pattern(""), 200); got["done"] != false || got["plan"].(map[string]any)["estimated_keys"] != 20.0 {
		t.Errorf("the plan = %v, want 20 keys and nothing done", got)
	}
	if r := pattern(`,"max_commands":1`); r.StatusCode != 429 || r.problem(t).Code != "command_budget_spent" {
		t.Errorf("a budget of 1 = %d %s, want it refused", r.StatusCode, r.body)
	}
	if r := ask(t, a, call{path: keyPath("list:1")}); r.StatusCode != 200 {
		t.Errorf("after a refused delete = %d, want the value", r.StatusCode)
	}
	if got := decode[result](t, pattern(`,"max_commands":100`), 200); !got.Done || got.Deleted != 20 || got.Commands < 2 {
		t.Errorf("the delete = %+v, want 20 gone", got)
	}
	if r := ask(t, a, call{path: keyPath("list:1")}); r.StatusCode != 404 {
		t.Errorf("after it = %d, want a miss", r.StatusCode)
	}
}

func TestWhileTheUpstreamIsDownTheCacheDegrades(t *testing.T) {
	t.Parallel()
	client := open(t)
	o := engines(t, client)
	a := newAPI(t, o)
	ask(t, a, call{method: http.MethodPut, path: keyPath("k:1"), body: `1`})
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	r := ask(t, a, call{path: keyPath("k:2")})
	if r.StatusCode != 404 || r.Header.Get(cacheHeader) != "miss" || r.Header.Get(degradedHeader) == "" {
		t.Errorf("a read = %d %v, want a miss that says it is degraded", r.StatusCode, r.Header)
	}
	if after := time.Since(begin); after > patience/2 {
		t.Errorf("a read took %s, want it to wait for nothing", after)
	}
	if r := ask(t, a, call{path: keyPath("k:1")}); r.StatusCode != 200 || r.body != "1" {
		t.Errorf("a value in memory = %d %s, want it", r.StatusCode, r.body)
	}
	r = ask(t, a, call{method: http.MethodPut, path: keyPath("k:3"), body: `1`})
	if w := decode[WriteResult](t, r, 200); w.Stored || w.Reason == "" {
		t.Errorf("a write = %+v, want to hear that it was not stored", w)
	}
	r = ask(t, a, call{method: http.MethodDelete, path: keyPath("k:1")})
	if d := decode[Deletion](t, r, http.StatusAccepted); d.Done || d.Reason == "" {
		t.Errorf("a delete = %+v, want 202 and the reason", d)
	}
	if r := ask(t, a, call{method: http.MethodPost, path: "/v1/cache/delete-pattern", body: `{"pattern":"k:*"}`}); r.StatusCode != 503 && r.StatusCode != 504 {
		t.Errorf("a pattern = %d, want it refused", r.StatusCode)
	}
}

func TestTheCacheSaysWhatItDid(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	ask(t, a, call{method: http.MethodPut, path: keyPath("k:1"), body: `1`})
	ask(t, a, call{path: keyPath("k:1")})
	ask(t, a, call{path: keyPath("k:2")})
	var s cache.Stats
	if err := json.Unmarshal([]byte(ask(t, a, call{path: "/v1/cache/stats"}).body), &s); err != nil {
		t.Fatal(err)
	}
	if n := s.Namespaces["k"]; n.MemoryHits != 1 || n.Misses != 1 || n.Writes != 1 {
		t.Errorf("stats = %+v, want 1 hit, 1 miss and 1 write", n)
	}
}
