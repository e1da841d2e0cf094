package page_test

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/bench/page"
)

func result(n int) *bench.Result {
	r := &bench.Result{Loop: bench.Open, RatePerSecond: 100, RampToPerSecond: 100, Done: int64(n), Started: int64(n), Took: 10 * time.Second}
	for i := range n {
		d := time.Millisecond * time.Duration(1+i%50)
		if i%(n/10) == 0 {
			r.Latency.Slices = append(r.Latency.Slices, bench.Slice{At: time.Duration(len(r.Latency.Slices)) * time.Second})
		}
		r.Latency.All.Record(d)
		r.Latency.Slices[len(r.Latency.Slices)-1].Latency.Record(d)
	}
	return r
}

func TestThePageNeedsNothingElseAndEscapesWhatItShows(t *testing.T) {
	r := result(2000)
	r.Connect.Record(2 * time.Millisecond)
	r.Server.RecordN(time.Millisecond, 500)
	r.FirstError = `<script>alert("x")</script>`
	file := &bench.File{Target: "a <b>", Scenarios: []bench.Measured{{Name: "cache-get", Result: r, Commands: 2000}, {Name: "none", Result: &bench.Result{Loop: bench.Closed}}}}
	a, err := bench.ParseAssertion("p95<100ms")
	if err != nil {
		t.Fatal(err)
	}
	text, err := page.Render(file, []bench.Verdict{bench.Judge("cache-get", a, r, 1)})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"connecting, each new connection, longest</td><td>2ms", "until the server&#39;s answer, p95"} {
		if !strings.Contains(string(text), part) {
			t.Errorf("the page does not say %q", part)
		}
	}
	for _, never := range []string{"<script", "http:", "https:", "<b>", "url("} {
		if strings.Contains(string(text), never) {
			t.Errorf("the page holds %q", never)
		}
	}
	if got := strings.Count(string(text), "<svg"); got != 3 {
		t.Errorf("%d drawings, want 3 of the one scenario that has something to draw", got)
	}
	for svg := range strings.SplitSeq(string(text), "<svg") {
		drawing, _, found := strings.Cut(svg, "</svg>")
		if !found {
			continue
		}
		d := xml.NewDecoder(strings.NewReader("<svg" + drawing + "</svg>"))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("a drawing is not well formed: %v", err)
			}
		}
	}
}

func TestThePageIsWrittenWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	file := &bench.File{Scenarios: []bench.Measured{{Name: "cache-get", Result: result(100)}}}
	if err := page.WriteFile(filepath.Join(dir, "page.html"), file, nil); err != nil {
		t.Fatal(err)
	}
	if err := page.WriteFile(filepath.Join(dir, "none", "page.html"), file, nil); err == nil {
		t.Error("a page was written into a directory that is not there")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v; want the page alone", left, err)
	}
}
