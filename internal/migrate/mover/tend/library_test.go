package tend_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/livetest"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A library is one real library that does what it is told: testdata/peers/queue-verbs.js.
type library struct {
	t     *testing.T
	in    io.WriteCloser
	lines *bufio.Scanner
}

func startLibrary(t *testing.T, lib, addr, queue string) *library {
	t.Helper()
	cmd := livetest.Command(t, "queue-verbs.js", lib, portOf(addr), "bull", queue)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill() // it has answered everything it was told
		_ = cmd.Wait()
	})
	return &library{t: t, in: in, lines: bufio.NewScanner(out)}
}

// do tells the library to do something, and returns its answer.
func (l *library) do(words ...any) any {
	l.t.Helper()
	answer, refused := l.try(words...)
	if refused != "" {
		l.t.Fatalf("%v: %s", words, refused)
	}
	return answer
}

// try is do for what the library may refuse.
func (l *library) try(words ...any) (answer any, refused string) {
	l.t.Helper()
	line, err := json.Marshal(words)
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.in.Write(append(line, '\n')); err != nil {
		l.t.Fatal(err)
	}
	if !l.lines.Scan() {
		l.t.Fatalf("%v: the library has ended", words)
	}
	var said struct {
		OK    any    `json:"ok"`
		Error string `json:"error"`
	}
	if err := json.Unmarshal(l.lines.Bytes(), &said); err != nil {
		l.t.Fatalf("%v: %s: %v", words, l.lines.Bytes(), err)
	}
	return said.OK, said.Error
}

// copyQueue makes to of from, key by key.
func copyQueue(t *testing.T, client *redis.Client, from, to string) {
	t.Helper()
	keys, err := client.Keys(t.Context(), "bull:"+from+":*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		raw, err := client.Dump(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		ttl := max(0, client.PTTL(t.Context(), key).Val())
		if err := client.RestoreReplace(t.Context(), strings.Replace(key, ":"+from+":", ":"+to+":", 1), ttl, raw).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// contents is a queue as text: every key with its type and what it holds, times of now left out.
func contents(t *testing.T, client *redis.Client, queue string, began time.Time) []string {
	t.Helper()
	ctx := t.Context()
	keys, err := client.Keys(ctx, "bull:"+queue+":*").Result()
	if err != nil {
		t.Fatal(err)
	}
	recent := func(text string) string { // a time after the beginning, with or without what delayed scores add
		n, err := strconv.ParseFloat(text, 64)
		for _, scale := range []float64{1, 4096} {
			if err == nil && n/scale >= float64(began.UnixMilli()) && n/scale < float64(began.UnixMilli())+1e9 {
				return "now"
			}
		}
		return text
	}
	var all []string
	for _, key := range keys {
		kind := client.Type(ctx, key).Val()
		var held any
		switch kind {
		case "string":
			held = client.Get(ctx, key).Val()
		case "list":
			held = client.LRange(ctx, key, 0, -1).Val()
		case "set":
			members := client.SMembers(ctx, key).Val()
			slices.Sort(members)
			held = members
		case "zset":
			var entries []string
			for _, z := range client.ZRangeWithScores(ctx, key, 0, -1).Val() {
				entries = append(entries, fmt.Sprintf("%v %s", z.Member, recent(strconv.FormatFloat(z.Score, 'f', -1, 64))))
			}
			held = entries
		case "hash":
			var entries []string
			fields := client.HGetAll(ctx, key).Val()
			for _, f := range slices.Sorted(maps.Keys(fields)) {
				value := recent(fields[f])
				if f == "opts" {
					value = sortedJSON(fields[f], recent)
				}
				entries = append(entries, f+"="+value)
			}
			held = entries
		case "stream":
			var entries []string
			for _, m := range client.XRange(ctx, key, "-", "+").Val() {
				var pairs []string
				for _, f := range slices.Sorted(maps.Keys(m.Values)) {
					pairs = append(pairs, fmt.Sprintf("%s=%s", f, recent(fmt.Sprint(m.Values[f]))))
				}
				entries = append(entries, strings.Join(pairs, " "))
			}
			held = entries
		}
		all = append(all, strings.ReplaceAll(fmt.Sprintf("%s %s %v", key, kind, held), ":"+queue+":", ":Q:"))
	}
	slices.Sort(all)
	return all
}

// sortedJSON is an object with its members in order and times of now left out.
func sortedJSON(text string, recent func(string) string) string {
	var o map[string]any
	if json.Unmarshal([]byte(text), &o) != nil {
		return text
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(o)) {
		value, _ := json.Marshal(o[k]) //nolint:errchkjson // it was just read
		parts = append(parts, k+":"+recent(string(value)))
	}
	return strings.Join(parts, ",")
}

// An ear hears what is published about the queues under bull.
type ear struct {
	t      *testing.T
	client *redis.Client
	heard  *redis.PubSub
}

func listen(t *testing.T, addr string) *ear {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
	t.Cleanup(func() { _ = client.Close() })
	heard := client.PSubscribe(t.Context(), "bull:*", "end")
	t.Cleanup(func() { _ = heard.Close() })
	for range 2 {
		if _, err := heard.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return &ear{t, client, heard}
}

// since is what was published about a queue until now, without tokens and times.
func (e *ear) since(queue string) []string {
	e.t.Helper()
	if err := e.client.Publish(e.t.Context(), "end", "").Err(); err != nil {
		e.t.Fatal(err)
	}
	said := []string{}
	for {
		got, err := e.heard.ReceiveTimeout(e.t.Context(), patience)
		m, ok := got.(*redis.Message)
		if err != nil || !ok {
			e.t.Fatalf("heard %v, %v", got, err)
		}
		if m.Channel == "end" {
			return said
		}
		channel, _, _ := strings.Cut(m.Channel, "@")
		if name, about := strings.CutPrefix(channel, "bull:"+queue+":"); about {
			payload := m.Payload
			if len(payload) == 13 { // milliseconds of when a job is due
				payload = "a time"
			}
			said = append(said, name+" "+payload)
		}
	}
}

func TestWhatIsDoneIsWhatTheRealLibraryWouldHaveDoneKeyByKey(t *testing.T) {
	for _, lib := range libraries() {
		t.Run(lib, func(t *testing.T) {
			server := redistest.Start(t)
			client := server.Client(t)
			began := time.Now()
			theirs := startLibrary(t, lib, server.Addr, "theirs")
			add := func(data any, opts map[string]any) string { return fmt.Sprint(theirs.do("add", "send", data, opts)) }
			fails := map[string]any{"fail": true}
			unique := map[string]any{"deduplication": map[string]any{"id": "ann"}}
			if lib == "bull" {
				unique = map[string]any{"debounce": map[string]any{"id": "ann"}}
			}
			plain, lifo, urgent := add(fails, nil), add(fails, map[string]any{"lifo": true}), add(fails, map[string]any{"priority": 3})
			theirs.do("log", plain, "a line")
			theirs.do("work", 3, true)
			done := add(map[string]any{}, nil)
			theirs.do("work", 1, false)
			waits, behind := add(map[string]any{"n": 1}, unique), add(map[string]any{"n": 2}, nil)
			delayed, first := add(map[string]any{"n": 3}, map[string]any{"delay": 3600000}), add(map[string]any{"n": 4}, map[string]any{"priority": 1})

			// What runs out by itself, as when stalled jobs were looked for, would do so at one side before the other.
			for _, key := range client.Keys(t.Context(), "bull:theirs:*").Val() {
				client.Persist(t.Context(), key)
			}

			// Each step begins from the same keys on both sides, and must end with the same.
			ear := listen(t, server.Addr)
			step := func(name string, lib func(), ours func(q *tend.Queue)) {
				t.Helper()
				client.Del(t.Context(), client.Keys(t.Context(), "bull:ours:*").Val()...)
				copyQueue(t, client, "theirs", "ours")
				ear.since("theirs")
				lib()
				want := ear.since("theirs")
				q := find(t, client, "ours")
				ours(q)
				if diff := cmp.Diff(want, ear.since("ours")); diff != "" {
					t.Errorf("%s is told differently (-the library +ours):\n%s", name, diff)
				}
				if diff := cmp.Diff(contents(t, client, "theirs", began), contents(t, client, "ours", began)); diff != "" {
					t.Errorf("%s differs (-the library +ours):\n%s", name, diff)
				}
			}
			retry := func(id string, state mover.State) func(q *tend.Queue) {
				return func(q *tend.Queue) {
					if _, out := act(t, q, tend.Retry, tend.Criteria{States: []mover.State{state}, IDs: []string{id}}); out.Done != 1 {
						t.Errorf("retry of %s: %+v", id, out)
					}
				}
			}
			remove := func(id string) func(q *tend.Queue) {
				return func(q *tend.Queue) {
					if _, out := act(t, q, tend.Delete, tend.Criteria{States: q.States(), IDs: []string{id}}); out.Done != 1 {
						t.Errorf("delete of %s: %+v", id, out)
					}
				}
			}
			pause := func(q *tend.Queue) {
				if _, err := q.Pause(t.Context()); err != nil {
					t.Error(err)
				}
			}
			resume := func(q *tend.Queue) {
				if _, err := q.Resume(t.Context()); err != nil {
					t.Error(err)
				}
			}
			added := func(data string, j tend.NewJob) func(q *tend.Queue) {
				j.Name, j.Data = "send", []byte(data)
				return func(q *tend.Queue) { enqueue(t, q, j) }
			}
			step("retry", func() { theirs.do("retry", plain) }, retry(plain, mover.Failed))
			step("retry of a lifo job", func() { theirs.do("retry", lifo) }, retry(lifo, mover.Failed))
			step("pause", func() { theirs.do("pause") }, pause)
			step("retry of a job with a priority while paused", func() { theirs.do("retry", urgent) }, retry(urgent, mover.Failed))
			step("add while paused", func() { theirs.do("add", "send", map[string]any{"n": 9}, nil) }, added(`{"n":9}`, tend.NewJob{}))
			step("resume", func() { theirs.do("resume") }, resume)
			step("add with a priority", func() { theirs.do("add", "send", map[string]any{}, map[string]any{"priority": 2}) }, added(`{}`, tend.NewJob{Priority: 2}))
			step("add with an id and tries", func() { theirs.do("add", "send", map[string]any{}, map[string]any{"jobId": "own", "attempts": 4}) },
				added(`{}`, tend.NewJob{ID: "own", Attempts: 4}))
			step("add with a delay", func() { theirs.do("add", "send", map[string]any{}, map[string]any{"delay": 7200000}) },
				added(`{}`, tend.NewJob{Delay: 2 * time.Hour}))
			if lib != "bull" { // which retries only what failed
				step("retry of a completed job", func() { theirs.do("retry", done, "completed") }, retry(done, mover.Completed))
			}
			for _, id := range []string{waits, first, delayed, done, behind, plain} {
				step("remove of "+id, func() { theirs.do("remove", id) }, remove(id))
			}
			step("add that is unique", func() { theirs.do("add", "send", map[string]any{}, unique) }, added(`{}`, tend.NewJob{Unique: "ann"}))
		})
	}
}
