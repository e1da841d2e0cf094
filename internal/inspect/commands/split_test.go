package commands

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A capture is one measured window of eleven idle queues; top and in_script come from MONITOR, which
// marks what scripts run.
type capture struct {
	Library  string           `json:"library"`
	Seconds  float64          `json:"seconds"`
	Clients  int              `json:"clients"`
	Top      int64            `json:"top"`
	InScript int64            `json:"in_script"`
	Calls    map[string]int64 `json:"calls"`
}

func captures(t *testing.T) map[string]capture {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "idle.json"))
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]capture
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func (c capture) delta(reads int64) delta {
	d := delta{calls: c.Calls, hasCalls: true, reads: reads}
	for _, n := range c.Calls {
		d.total += n
	}
	d.processed = d.total
	return d
}

func TestSplitEqualsWhatMonitorSawInEveryCapture(t *testing.T) {
	for name, c := range captures(t) {
		t.Run(name, func(t *testing.T) {
			events := 0
			if strings.Contains(name, "-qe") {
				events = 11
			}
			who := crowd{ownReads: 1, known: true, libraries: true, events: events}
			for _, reads := range []int64{-1, c.Top + 1} {
				// The capture of BullMQ 6 with events holds the handshakes of six reconnecting workers as well.
				s := splitOf(c.delta(reads), who)
				if off := s.Top - c.Top; off < 0 || off > 12 || s.InScript != s.All-s.Top {
					t.Errorf("reads %d: %+v, want %d top-level and %d in-script", reads, s, c.Top, c.InScript)
				}
				if s.Low > s.Top || s.High < s.Top || s.Method == "" {
					t.Errorf("range %d..%d does not hold %d: %s", s.Low, s.High, s.Top, s.Method)
				}
			}
		})
	}
}

func TestSplit(t *testing.T) {
	idle := map[string]int64{"brpoplpush": 100, "evalsha": 120, "zrangebyscore": 100, "zrange": 100, "exists": 20}
	with := func(more map[string]int64) delta {
		d := delta{calls: map[string]int64{}, hasCalls: true, reads: -1}
		for _, m := range []map[string]int64{idle, more} {
			for k, n := range m {
				d.calls[k] += n
				d.total += n
			}
		}
		return d
	}
	for _, tc := range []struct {
		name     string
		d        delta
		reads    int64
		who      crowd
		top      int64
		low      int64
		high     int64
		exact    bool
		contains string
	}{
		{
			"without a script everything is top-level",
			delta{calls: map[string]int64{"get": 5}, total: 5},
			-1,
			crowd{ownReads: 1, known: true, others: 1},
			5, 5, 5, true, "no script",
		},
		{
			"a connection that counts itself settles it", with(map[string]int64{"get": 50}), -1,
			crowd{ownReads: 1, known: true, libraries: true, others: 1, counted: true, commands: 270},
			270, 270, 270, true, "tot-cmds",
		},
		{
			"a closed connection took its count along", with(map[string]int64{"get": 50}), -1,
			crowd{ownReads: 1, known: true, libraries: true, others: 1, counted: true, commands: 270, closed: 1},
			220, 220, 370, false, "could be either",
		},
		{
			"an application's GETs are told by the reads from sockets", with(map[string]int64{"get": 50}), 271,
			crowd{ownReads: 1, known: true, libraries: true, others: 1},
			270, 220, 370, false, "read 270 times",
		},
		{
			"a dashboard's lookups over a queue's own connection are too", with(map[string]int64{"hgetall": 50}), 271,
			crowd{ownReads: 1, known: true, libraries: true},
			270, 220, 370, false, "read 270 times",
		},
		{
			"connections that ended are no commands", with(nil), 225,
			crowd{ownReads: 1, known: true, libraries: true, closed: 3, shorts: 1},
			220, 220, 440, false, "read 220 times",
		},
		{
			"nobody may see the clients: a range and no more", with(map[string]int64{"get": 50}), 271,
			crowd{shorts: -1},
			220, 220, 590, false, "does not count",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.d.reads = tc.reads
			got := splitOf(tc.d, tc.who)
			if got.Top != tc.top || got.Low != tc.low || got.Exact != tc.exact || !strings.Contains(got.Method, tc.contains) {
				t.Errorf("got %+v, want top %d, low %d, exact %v, method with %q", got, tc.top, tc.low, tc.exact, tc.contains)
			}
			if got.High < got.Top || got.High > got.All {
				t.Errorf("high %d is not between %d and %d", got.High, got.Top, got.All)
			}
		})
	}
}

func TestACounterThatRestartedIsAnErrorAndNotANumber(t *testing.T) {
	now := time.Now()
	a := parseSnapshot("run_id:a\r\ntotal_commands_processed:100\r\n# Commandstats\r\ncmdstat_get:calls=7,usec=1\r\n", now)
	for _, tc := range []struct{ name, info, want string }{
		{"another run id is another server", "run_id:b\ntotal_commands_processed:3\ncmdstat_get:calls=1,usec=1\n", "restarted"},
		{"a smaller count was reset", "run_id:a\ntotal_commands_processed:101\ncmdstat_get:calls=1,usec=1\n", "RESETSTAT"},
		{"a missing count was reset", "run_id:a\ntotal_commands_processed:101\n", "RESETSTAT"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := difference("", a, parseSnapshot(tc.info, now))
			var reset *ResetError
			if !errors.As(err, &reset) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v, want a ResetError about %q", err, tc.want)
			}
		})
	}
}

func FuzzParseCommandStats(f *testing.F) {
	f.Add("# Commandstats\r\ncmdstat_client|list:calls=3,usec=9,usec_per_call=3.00,rejected_calls=0,failed_calls=0\r\n")
	f.Add("cmdstat_:calls=\ncmdstat_x:calls=-1\ncmdstat_y")
	f.Fuzz(func(t *testing.T, info string) {
		for name, n := range ParseCommandStats(info) {
			if name == "" || n < 0 {
				t.Errorf("command %q with %d calls", name, n)
			}
		}
		s := parseSnapshot(info, time.Now())
		if _, err := difference("", s, s); err != nil {
			t.Errorf("a snapshot differs from itself: %v", err)
		}
	})
}
