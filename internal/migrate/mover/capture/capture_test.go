package capture_test

import (
	"strings"
	"testing"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func bull(t *testing.T) []capture.Key {
	t.Helper()
	keys, err := capture.Bull()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestWhatIsRestoredIsDumpedAgain(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	stream, err := capture.Parse([]byte(`[["events","stream",[["1-0",["event","added","jobId","7"]]],-1]]`))
	if err != nil {
		t.Fatal(err)
	}
	want := append(bull(t), stream...)
	if err := capture.Restore(ctx, client, want); err != nil {
		t.Fatal(err)
	}
	got, err := capture.Dump(ctx, client, "*")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Errorf("dumped %d keys, want %d", len(got), len(want))
	}
	for _, d := range capture.Compare(want, got) {
		t.Errorf("differs: %s", d)
	}
	some, err := capture.Dump(ctx, client, "bull:calendar-sync:*")
	if err != nil || len(some) != 11 {
		t.Errorf("dumped %d keys of one queue, %v, want 11", len(some), err)
	}
}

func TestTheCaptureHoldsJobsInEveryState(t *testing.T) {
	jobs := 0
	for _, k := range bull(t) {
		if fields, ok := k.Value.(map[string]string); ok && fields["timestamp"] != "" {
			jobs++
		}
	}
	if jobs != 44 {
		t.Errorf("the capture has %d jobs, want 44", jobs)
	}
}

func TestCompareNamesWhatDiffers(t *testing.T) {
	was, err := capture.Parse([]byte(`[["h","hash",{"a":"1","b":"2"},-1],["l","list",["x"],-1],["gone","string","s",-1],["ttl","string","s",500]]`))
	if err != nil {
		t.Fatal(err)
	}
	is, err := capture.Parse([]byte(`[["h","hash",{"a":"1","b":"3"},-1],["l","list",["x","y"],-1],["new","string","s",-1],["ttl","string","s",-1]]`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range capture.Compare(was, is) {
		got = append(got, d.String())
	}
	want := `gone: "s" -> (nothing)
h.b: 2 -> 3
l: [x] -> [x y]
new: (nothing) -> "s"
ttl.ttl: 500ms -> -1ms`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("differences are\n%s\nwant\n%s", text, want)
	}
}

func TestADumpThatCannotBeReadIsRefused(t *testing.T) {
	for _, raw := range []string{`{`, `[["k","string","v"]]`, `[["k","module","v",-1]]`, `[["k","hash",["a"],-1]]`, `[[1,"string","v",-1]]`} {
		if keys, err := capture.Parse([]byte(raw)); err == nil {
			t.Errorf("Parse(%s) = %v, want an error", raw, keys)
		}
	}
}
