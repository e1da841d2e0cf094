package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// script is what the tests append: a short migration, forward.
var script = []Record{
	{Kind: Begin, Detail: map[string]string{"plan": "abc"}},
	{Kind: Intent, Step: "a"},
	{Kind: Done, Step: "a"},
	{Kind: Complete},
}

func open(t *testing.T, opts Options) *Journal {
	t.Helper()
	j, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatalf("Open(%s) = %v", opts.Path, err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func fill(t *testing.T, j *Journal, recs ...Record) {
	t.Helper()
	for _, r := range recs {
		if err := j.Append(t.Context(), r); err != nil {
			t.Fatalf("Append(%s %s) = %v", r.Kind, r.Step, err)
		}
	}
}

// written returns the bytes of a journal file that holds script, and its entries.
func written(t *testing.T) ([]byte, []Entry) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, Options{Path: path})
	fill(t, j, script...)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content, j.Entries()
}

func server(t *testing.T) (*miniredis.Miniredis, *redis.Client) {
	t.Helper()
	s := miniredis.RunT(t)
	c := redis.NewClient(&redis.Options{Addr: s.Addr(), DisableIdentity: true, MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() })
	return s, c
}

func TestEntriesComeBackAsTheyWereWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "dirs", "j")
	j := open(t, Options{Path: path})
	fill(t, j, script...)
	want := j.Entries()
	if len(want) != len(script) {
		t.Fatalf("Entries() has %d, want %d", len(want), len(script))
	}
	if got := string(want[0].Detail); got != `{"plan":"abc"}` {
		t.Errorf("detail = %s, want the record's", got)
	}
	got, err := Read(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Read (-appended +read):\n%s", diff)
	}
	if diff := cmp.Diff(want, open(t, Options{Path: path}).Entries()); diff != "" {
		t.Errorf("Open (-appended +opened):\n%s", diff)
	}
}

func TestReadingAMissingJournalCreatesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "j")
	got, err := Read(t.Context(), Options{Path: path})
	if err != nil || len(got) != 0 {
		t.Errorf("Read = %v, %v, want nothing", got, err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Stat = %v, want the directory to be missing still", err)
	}
}

func TestAJournalCutAtAnyByteOpensToAPrefixAndGoesOn(t *testing.T) {
	content, entries := written(t)
	dir := t.TempDir()
	for cut := range len(content) + 1 {
		path := filepath.Join(dir, fmt.Sprint(cut))
		if err := os.WriteFile(path, content[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(t.Context(), Options{Path: path})
		if err != nil {
			t.Fatalf("cut at %d: Open = %v", cut, err)
		}
		kept := bytes.Count(content[:cut], []byte{'\n'})
		if diff := cmp.Diff(entries[:kept], j.Entries()); diff != "" {
			t.Fatalf("cut at %d (-want +got):\n%s", cut, diff)
		}
		fill(t, j, Record{Kind: Stopped, Step: "after the cut"})
		want := j.Entries()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := Read(t.Context(), Options{Path: path})
		if err != nil {
			t.Fatalf("cut at %d: reading after appending: %v", cut, err)
		}
		if diff := cmp.Diff(want, got); diff != "" || len(got) != kept+1 {
			t.Fatalf("cut at %d: after appending (-want +got):\n%s", cut, diff)
		}
	}
}

func TestAJournalWithAnyByteFlippedIsRefused(t *testing.T) {
	content, _ := written(t)
	path := filepath.Join(t.TempDir(), "j")
	for i := range content {
		for _, mask := range []byte{0x01, 0x20, 0x80, content[i] ^ '\n'} {
			if mask == 0 {
				continue
			}
			bad := bytes.Clone(content)
			bad[i] ^= mask
			var damaged *DamagedError
			if _, _, _, _, err := readLines(path, bytes.NewReader(bad)); !errors.As(err, &damaged) {
				t.Fatalf("byte %d xor %#x: read with %v, want a DamagedError", i, mask, err)
			}
			if mask != 0x01 || i%7 != 0 {
				continue // a file system takes its time; every seventh goes the whole way
			}
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			j, err := Open(t.Context(), Options{Path: path})
			if !errors.As(err, &damaged) {
				t.Fatalf("byte %d xor %#x: Open = %v, %v, want a DamagedError", i, mask, j, err)
			}
			if now, _ := os.ReadFile(path); !bytes.Equal(now, bad) {
				t.Fatalf("byte %d xor %#x: the refused file was changed", i, mask)
			}
		}
	}
}

func TestALineTakenOutPutInTwiceOrSwappedIsRefused(t *testing.T) {
	content, _ := written(t)
	lines := bytes.SplitAfter(content, []byte{'\n'})[:len(script)]
	for name, order := range map[string][]int{
		"the first is missing":     {1, 2, 3},
		"one is missing":           {0, 2, 3},
		"one is there twice":       {0, 1, 1, 2, 3},
		"two are swapped":          {0, 2, 1, 3},
		"an empty line is between": {0, -1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var bad []byte
			for _, i := range order {
				if i < 0 {
					bad = append(bad, '\n')
					continue
				}
				bad = append(bad, lines[i]...)
			}
			path := filepath.Join(t.TempDir(), "j")
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			var damaged *DamagedError
			if _, err := Open(t.Context(), Options{Path: path}); !errors.As(err, &damaged) {
				t.Errorf("Open = %v, want a DamagedError", err)
			}
		})
	}
}

func TestANewerSchemaIsRefusedEvenIfItsHashIsKeptOtherwise(t *testing.T) {
	for name, line := range map[string]string{
		"same hash": resealed(t, `{"schema":2,"seq":1,"time":"2026-11-22T00:00:00Z","kind":"begin","prev":""}`),
		"no hash":   `{"schema":2,"seq":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "j")
			if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			var newer *SchemaError
			if _, err := Open(t.Context(), Options{Path: path}); !errors.As(err, &newer) || newer.Got != 2 {
				t.Errorf("Open = %v, want a SchemaError about 2", err)
			}
		})
	}
}

func TestAnEntryTooLongForALineIsRefusedBeforeItIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, Options{Path: path})
	if err := j.Append(t.Context(), Record{Kind: Begin, Detail: strings.Repeat("x", MaxLine)}); err == nil {
		t.Error("Append of an entry over MaxLine = nil, want an error")
	}
	fill(t, j, Record{Kind: Begin}) // the journal is as good as before
	if got := len(j.Entries()); got != 1 {
		t.Errorf("%d entries, want 1", got)
	}
}

func TestOptionsReportAllProblemsAtOnce(t *testing.T) {
	_, client := server(t)
	_, err := Open(t.Context(), Options{Client: client, Timeout: -1})
	for _, want := range []string{"path:", "key:", "timeout:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open = %v, want it to name %s", err, want)
		}
	}
}
