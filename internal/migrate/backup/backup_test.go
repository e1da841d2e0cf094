package backup_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/migrate/backup"
	"github.com/redisopt/redisopt/internal/migrate/portable"
)

// script is a Sink that writes down what it is given.
type script []string

func (s *script) Begin(k portable.Key) error {
	*s = append(*s, fmt.Sprintf("begin %s %q %d", k.Type, k.Name, k.ExpireAt.UnixMilli()))
	return nil
}

func (s *script) Values(values []string) error {
	*s = append(*s, fmt.Sprintf("values %q", values))
	return nil
}

func (s *script) Expiries(fields []portable.FieldExpiry) error {
	for _, f := range fields {
		*s = append(*s, fmt.Sprintf("field %q %d", f.Field, f.At.UnixMilli()))
	}
	return nil
}

func (s *script) End() error {
	*s = append(*s, "end")
	return nil
}

func header() backup.Header {
	return backup.Header{Database: "abc", Prefixes: []string{"bull:mail:"}, Created: time.Unix(1795380456, 0).UTC(), Owner: "ops@host 7"}
}

// sample is a small backup.
func sample(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, header())
	if err != nil {
		t.Fatal(err)
	}
	w.Seal = func(name string) string { return "seal of " + name }
	for _, k := range []struct {
		key    portable.Key
		values [][]string
	}{
		{portable.Key{Name: "bull:mail:1", Type: portable.Hash}, [][]string{{"name", "x", "data", "\x00\xff"}, {"f", ""}}},
		{portable.Key{Name: "bull:mail:\xff", Type: portable.String, ExpireAt: time.UnixMilli(1795380456459)}, [][]string{{strings.Repeat("z", 300)}}},
		{portable.Key{Name: "bull:mail:empty", Type: portable.String}, nil},
	} {
		if err := w.Begin(k.key); err != nil {
			t.Fatal(err)
		}
		for _, v := range k.values {
			if err := w.Values(v); err != nil {
				t.Fatal(err)
			}
		}
		if k.key.Type == portable.Hash {
			if err := w.Expiries([]portable.FieldExpiry{{Field: "data", At: time.UnixMilli(1795380456459)}, {Field: "", At: time.UnixMilli(1)}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.End(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestWhatWasWrittenIsReadAgain(t *testing.T) {
	var got script
	var seals []string
	s, err := backup.Read(bytes.NewReader(sample(t)), backup.ReadOptions{
		Sink:  &got,
		Want:  func(k portable.Key) bool { return k.Name != "bull:mail:empty" },
		Entry: func(e backup.Entry) error { seals = append(seals, e.Seal); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	want := script{
		`begin hash "bull:mail:1" -62135596800000`, `values ["name" "x" "data" "\x00\xff"]`, `values ["f" ""]`,
		`field "data" 1795380456459`, `field "" 1`, "end",
		`begin string "bull:mail:\xff" 1795380456459`, fmt.Sprintf("values [%q]", strings.Repeat("z", 300)), "end",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"seal of bull:mail:1", "seal of bull:mail:\xff"}, seals); diff != "" {
		t.Errorf("seals (-want +got):\n%s", diff)
	}
	if s.Keys != 3 || s.Types["string"] != 2 || s.Types["hash"] != 1 || len(s.Digest) != 64 {
		t.Errorf("summary = %+v", s)
	}
	if diff := cmp.Diff(header(), s.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

func TestAFileThatWasCutAnywhereIsRefused(t *testing.T) {
	whole := sample(t)
	for n := range len(whole) {
		if _, err := backup.Read(bytes.NewReader(whole[:n]), backup.ReadOptions{}); err == nil {
			t.Fatalf("the first %d of %d bytes were taken for a backup", n, len(whole))
		}
	}
}

func TestAFileOfWhichAnyByteWasChangedIsRefused(t *testing.T) {
	whole := sample(t)
	read := func(data []byte) (script, backup.Summary, error) {
		var got script
		s, err := backup.Read(bytes.NewReader(data), backup.ReadOptions{Sink: &got})
		return got, s, err
	}
	want, sum, err := read(whole)
	if err != nil {
		t.Fatal(err)
	}
	unseen := 0
	for i := range whole {
		changed := bytes.Clone(whole)
		changed[i] ^= 0x41
		got, s, err := read(changed)
		if err != nil {
			continue
		}
		unseen++ // the compression's hint of how much memory it wants may change without changing what is read
		if diff := cmp.Diff(want, got) + cmp.Diff(sum, s); diff != "" || unseen > 1 {
			t.Fatalf("byte %d of %d was changed, and nobody saw it:\n%s", i, len(whole), diff)
		}
	}
	if _, err := backup.Read(io.MultiReader(bytes.NewReader(whole), strings.NewReader("more")), backup.ReadOptions{}); err == nil {
		t.Error("what follows the end was not seen")
	}
}

func TestOtherFilesAreNamedForWhatTheyAre(t *testing.T) {
	var newer *backup.VersionError
	if _, err := backup.Read(strings.NewReader("redisopt-backup 3\nxyz"), backup.ReadOptions{}); !errors.As(err, &newer) || newer.Got != 3 {
		t.Errorf("a newer format: %v, want a VersionError", err)
	}
	for name, text := range map[string]string{"empty": "", "a dump of Redis": "REDIS0011\xfa", "a long line": strings.Repeat("x", 10000), "version zero": "redisopt-backup 0\n"} {
		if _, err := backup.Read(strings.NewReader(text), backup.ReadOptions{}); !errors.Is(err, backup.ErrNoBackup) {
			t.Errorf("%s: %v, want ErrNoBackup", name, err)
		}
	}
	var damaged *backup.DamagedError
	if _, err := backup.Read(strings.NewReader("redisopt-backup 1\nnot compressed"), backup.ReadOptions{}); !errors.As(err, &damaged) {
		t.Errorf("no compressed text: %v, want a DamagedError", err)
	}
}

// firstFormat is a backup of one key, "k", as the first version wrote it.
const firstFormat = "72656469736f70742d6261636b757020310a28b52ffd040031070068627b226461746162617365223a22616263222c227072656669786573223a5b22" +
	"62756c6c3a6d61696c3a225d2c2263726561746564223a22323032362d31312d32325432303a34373a33365a222c226f776e6572223a226f70734068" +
	"6f73742037227de2ef05226b0a016b06737472696e6700a82c9fee7603010176229936f56503616263246dd2857a567b226b657973223a312c226469" +
	"67657374223a226332376438303732633462633836613138326261653565656330306261643135666532616239656465353436623135646138363763" +
	"3565663631613332373833227d213565ffa510f4e4"

func TestAFileOfTheFirstFormatIsReadWithoutItsSeals(t *testing.T) {
	first, err := hex.DecodeString(firstFormat)
	if err != nil {
		t.Fatal(err)
	}
	var got script
	var seals []string
	s, err := backup.Read(bytes.NewReader(first), backup.ReadOptions{Sink: &got, Entry: func(e backup.Entry) error { seals = append(seals, e.Seal); return nil }})
	if err != nil || s.Keys != 1 {
		t.Fatalf("Read = %+v, %v, want 1 key", s, err)
	}
	if diff := cmp.Diff(script{`begin string "k" -62135596800000`, `values ["v"]`, "end"}, got) + cmp.Diff([]string{""}, seals); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// A file of today that says it is older is not the same file.
	changed := bytes.Replace(sample(t), []byte("backup 2"), []byte("backup 1"), 1)
	var damaged *backup.DamagedError
	if _, err := backup.Read(bytes.NewReader(changed), backup.ReadOptions{}); !errors.As(err, &damaged) {
		t.Errorf("another version in the first line: %v, want a DamagedError", err)
	}
}

func TestTheErrorOfWhoeverIsGivenTheKeysEndsTheReading(t *testing.T) {
	full := errors.New("the target is full")
	_, err := backup.Read(bytes.NewReader(sample(t)), backup.ReadOptions{Entry: func(backup.Entry) error { return full }})
	if !errors.Is(err, full) {
		t.Errorf("Read = %v, want %v", err, full)
	}
}

// FuzzRead feeds arbitrary files. What is accepted must be what a writer would write again.
func FuzzRead(f *testing.F) {
	whole := sample(f)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte("redisopt-backup 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var out bytes.Buffer
		s, err := backup.Read(bytes.NewReader(data), backup.ReadOptions{})
		if err != nil {
			return
		}
		w, err := backup.NewWriter(&out, s.Header)
		if err != nil {
			t.Fatal(err)
		}
		seal := ""
		w.Seal = func(string) string { return seal }
		if _, err := backup.Read(bytes.NewReader(data), backup.ReadOptions{Sink: w}); err != nil {
			t.Fatalf("read once and not again: %v", err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := backup.Read(&out, backup.ReadOptions{})
		if err != nil || again.Keys != s.Keys {
			t.Fatalf("written again it has %d keys, want %d: %v", again.Keys, s.Keys, err)
		}
	})
}
