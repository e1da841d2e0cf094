package history

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	noon  = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	never = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// sample is the i-th of a series, one a minute.
func sample(i int) Sample {
	return Sample{
		Time: noon.Add(time.Duration(i) * time.Minute), Span: time.Minute, Commands: int64(1000 + i), InScript: Unknown,
		Writes: int64(i), Errors: 0, Connections: 33, MemoryBytes: 1 << 33, Source: FromInfo | FromMeter,
	}
}

func series(from, to int) []Sample {
	var all []Sample
	for i := from; i < to; i++ {
		all = append(all, sample(i))
	}
	return all
}

func open(t testing.TB, dir string) *Ring {
	t.Helper()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func appendAll(t testing.TB, r *Ring, samples ...Sample) {
	t.Helper()
	for _, s := range samples {
		if err := r.Append(s); err != nil {
			t.Fatal(err)
		}
	}
}

func all(t testing.TB, dir string) []Sample {
	t.Helper()
	got, err := Read(dir, time.Time{}, never)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSamplesComeBackAsTheyWereWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "dir")
	if got := all(t, dir); got != nil {
		t.Errorf("a ring that does not exist holds %v", got)
	}
	r := open(t, dir)
	odd := Sample{Time: noon.Add(time.Hour), InScript: Unknown, Writes: Unknown, Errors: Unknown, Connections: Unknown, MemoryBytes: Unknown, Source: Restarted}
	appendAll(t, r, append(series(0, 3), odd)...)
	if diff := cmp.Diff(append(series(0, 3), odd), all(t, dir)); diff != "" {
		t.Errorf("while it is written (-want +got):\n%s", diff)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Append(sample(9)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Append after Close = %v", err)
	}
	r = open(t, dir)
	appendAll(t, r, sample(3))
	got, err := r.Range(noon.Add(time.Minute), noon.Add(4*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(series(1, 4), got); diff != "" {
		t.Errorf("Range includes its beginning and not its end (-want +got):\n%s", diff)
	}
}

func TestOnlyTheOwnerMayReadTheFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs file modes")
	}
	dir := filepath.Join(t.TempDir(), "state")
	open(t, dir)
	for path, want := range map[string]os.FileMode{
		dir: 0o700, filepath.Join(dir, FileName): 0o600, filepath.Join(dir, FileName+".lock"): 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of %s = %o, want %o", path, got, want)
		}
	}
}

func TestTheRingGoesRoundAndKeepsItsSize(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	r.next = Slots - 1 // as if all but the last two slots had been written long ago
	appendAll(t, r, series(0, 5)...)
	if diff := cmp.Diff(series(0, 5), all(t, dir)); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	info, err := os.Stat(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Size(), int64(4_838_528); got != want {
		t.Errorf("size = %d, want %d", got, want)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = open(t, dir)
	if got, want := r.next, uint64(Slots+4); got != want {
		t.Errorf("after opening, the next sequence number = %d, want %d", got, want)
	}
	r.next = 2*Slots + 1 // the next overwrites the oldest
	appendAll(t, r, sample(5))
	if diff := cmp.Diff(append(append(series(0, 2), series(3, 5)...), sample(5)), all(t, dir)); diff != "" {
		t.Errorf("after the second round began (-want +got):\n%s", diff)
	}
}

func TestSamplesOfAClockThatWasSetBackAreThereInTheOrderOfTime(t *testing.T) {
	dir := t.TempDir()
	appendAll(t, open(t, dir), sample(2), sample(0), sample(1))
	if diff := cmp.Diff(series(0, 3), all(t, dir)); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
}

func TestThereIsOneWriter(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	if _, err := Open(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("a second writer: %v, want ErrLocked", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

// written is the bytes of a ring of n samples.
func written(t *testing.T, n int) []byte {
	t.Helper()
	dir := t.TempDir()
	appendAll(t, open(t, dir), series(0, n)...)
	text, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAFileCutAtAnyByteHoldsAPrefixAndTakesMore(t *testing.T) {
	const n = 4
	whole := written(t, n)
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	for size := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Open(dir)
		if size > 0 && size < headerSize {
			// The head appears whole or not at all, so this is damage and no crash of ours.
			if _, ok := errors.AsType[*DamagedError](err); !ok {
				t.Fatalf("cut at %d: Open = %v, want a *DamagedError", size, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("cut at %d: %v", size, err)
		}
		kept := max(0, (size-headerSize)/recordSize)
		appendAll(t, r, sample(n))
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(append(series(0, kept), sample(n)), all(t, dir)); diff != "" {
			t.Fatalf("cut at %d (-want +got):\n%s", size, diff)
		}
	}
}

func TestAFlippedByteCostsOneSampleAndNothingIsMadeUp(t *testing.T) {
	const n = 4
	whole := written(t, n)
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	for at := range whole {
		text := append([]byte(nil), whole...)
		text[at] ^= 0x40
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Read(dir, time.Time{}, never)
		if at < headerSize {
			if _, ok := errors.AsType[*DamagedError](err); !ok {
				t.Fatalf("byte %d of the head flipped: Read = %v, want a *DamagedError", at, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("byte %d flipped: %v", at, err)
		}
		lost := (at - headerSize) / recordSize
		if diff := cmp.Diff(append(series(0, lost), series(lost+1, n)...), got); diff != "" {
			t.Fatalf("byte %d flipped (-want +got):\n%s", at, diff)
		}
	}
}

func TestANewerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	head := header(r.table)
	head[8] = schema + 1
	reseal(head[:], r)
	if _, err := r.file.WriteAt(head[:], 0); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	_, openErr := Open(dir)
	_, readErr := Read(dir, time.Time{}, never)
	for _, err := range []error{openErr, readErr} {
		var newer *SchemaError
		if !errors.As(err, &newer) || newer.Got != schema+1 {
			t.Errorf("got %v, want a *SchemaError for schema %d", err, schema+1)
		}
	}
	if _, err := Open(dir); errors.Is(err, ErrLocked) {
		t.Error("a refused ring stays locked")
	}
}

// TestKilledWriter is the writer that TestAKilledWriterLosesNothingItHasConfirmed kills.
func TestKilledWriter(t *testing.T) {
	dir := os.Getenv("HISTORY_TEST_DIR")
	if dir == "" {
		return // nobody asked for a writer
	}
	r := open(t, dir)
	for i := range 1_000_000 {
		appendAll(t, r, sample(i))
		t.Logf("confirmed sample %d", i)
	}
}

func TestAKilledWriterLosesNothingItHasConfirmed(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, after := range []int{1, 7, 40} {
		dir := t.TempDir()
		child := exec.CommandContext(t.Context(), self, "-test.run=^TestKilledWriter$", "-test.v")
		child.Env = append(os.Environ(), "HISTORY_TEST_DIR="+dir)
		output, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		confirmed := 0
		for lines := bufio.NewScanner(output); confirmed < after && lines.Scan(); {
			if strings.Contains(lines.Text(), "confirmed sample") {
				confirmed++
			}
		}
		if confirmed < after {
			t.Fatalf("the writer ended after %d samples", confirmed)
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // killed, so it never ends well
		got := all(t, dir)
		if len(got) < confirmed {
			t.Fatalf("%d samples after %d were confirmed", len(got), confirmed)
		}
		if diff := cmp.Diff(series(0, len(got)), got); diff != "" {
			t.Errorf("samples (-want +got):\n%s", diff)
		}
		appendAll(t, open(t, dir), sample(len(got)))
	}
}

func TestCoverage(t *testing.T) {
	for name, x := range map[string]struct {
		samples []Sample
		want    float64
	}{
		"nothing":                            {nil, 0},
		"every minute":                       {series(1, 11), 1},
		"every other minute":                 {[]Sample{sample(2), sample(4), sample(6), sample(8), sample(10)}, 0.5},
		"spans that overlap count once":      {[]Sample{sample(1), sample(1), sample(2)}, 0.2},
		"what lies outside does not count":   {append(series(-5, 6), series(20, 30)...), 0.5},
		"a span over both ends counts whole": {[]Sample{{Time: noon.Add(time.Hour), Span: 2 * time.Hour}}, 1},
	} {
		if got := Coverage(x.samples, noon, noon.Add(10*time.Minute)); got != x.want {
			t.Errorf("%s: Coverage = %g, want %g", name, got, x.want)
		}
	}
	if got := Coverage(series(0, 9), noon, noon); got != 0 {
		t.Errorf("Coverage of no time = %g, want 0", got)
	}
}

func FuzzRecord(f *testing.F) {
	table := crcTable()
	record := sample(1).encode(7, table)
	f.Add(record[:])
	f.Fuzz(func(t *testing.T, text []byte) {
		var b [recordSize]byte
		copy(b[:], text)
		seq, s, ok := decode(b[:], table)
		if !ok {
			return
		}
		if again := s.encode(seq, table); again != b {
			seq2, s2, _ := decode(again[:], table)
			if seq2 != seq || s2 != s {
				t.Errorf("%v written and read is %v", s, s2)
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	r := open(b, b.TempDir())
	for i := 0; b.Loop(); i++ {
		appendAll(b, r, sample(i))
	}
}

func BenchmarkRangeOfADayInAFullRing(b *testing.B) {
	dir := b.TempDir()
	r := open(b, dir)
	for i := range Slots {
		record := sample(i).encode(uint64(i+1), r.table)
		if _, err := r.file.WriteAt(record[:], headerSize+int64(i)*recordSize); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		got, err := Read(dir, noon.Add(24*time.Hour), noon.Add(48*time.Hour))
		if err != nil || len(got) != 1440 {
			b.Fatalf("%d samples, %v", len(got), err)
		}
	}
}
