package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

const key = "redisopt:journal:bull:mail"

// fullDevice opens the device that is always full.
func fullDevice(t *testing.T) disk {
	t.Helper()
	f, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs /dev/full: %v", err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestEveryEntryIsInBothCopies(t *testing.T) {
	s, client := server(t)
	opts := Options{Path: filepath.Join(t.TempDir(), "j"), Client: client, Key: key}
	fill(t, open(t, opts), script...)
	file, err := os.ReadFile(opts.Path)
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.List(key)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(file), strings.Join(list, "\n")+"\n"); diff != "" {
		t.Errorf("(-file +mirror):\n%s", diff)
	}
}

func TestTheShorterCopyIsCompletedWhicheverItIs(t *testing.T) {
	for n := range len(script) + 1 {
		for _, short := range []string{"file", "mirror"} {
			s, client := server(t)
			opts := Options{Path: filepath.Join(t.TempDir(), "j"), Client: client, Key: key}
			j := open(t, opts)
			fill(t, j, script...)
			want := j.Entries()
			if short == "mirror" {
				for range len(script) - n {
					if _, err := s.Pop(key); err != nil {
						t.Fatal(err)
					}
				}
			} else {
				content, _ := os.ReadFile(opts.Path)
				keep := strings.Join(strings.SplitAfter(string(content), "\n")[:n], "")
				if err := os.WriteFile(opts.Path, []byte(keep), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := Read(t.Context(), opts); err != nil || !cmp.Equal(got, want) {
				t.Errorf("short %s of %d: Read = %d entries, %v, want all", short, n, len(got), err)
			}
			if diff := cmp.Diff(want, open(t, opts).Entries()); diff != "" {
				t.Errorf("short %s of %d (-want +got):\n%s", short, n, diff)
			}
			for _, one := range []Options{{Path: opts.Path}, {Path: opts.Path + "-none", Client: client, Key: key}} {
				if got, err := Read(t.Context(), one); err != nil || !cmp.Equal(got, want) {
					t.Errorf("short %s of %d: copy has %d entries, %v, want all", short, n, len(got), err)
				}
			}
		}
	}
}

func TestAForkIsRefusedAndNeitherCopyChanges(t *testing.T) {
	s, client := server(t)
	opts := Options{Path: filepath.Join(t.TempDir(), "j"), Client: client, Key: key}
	other := Options{Path: filepath.Join(t.TempDir(), "j"), Client: client, Key: key}
	fill(t, open(t, opts), script[:2]...)
	// A host that crashed between its file and the mirror, while another took over.
	alone := open(t, Options{Path: opts.Path})
	fill(t, alone, Record{Kind: Stopped, Step: "here"})
	fill(t, open(t, other), Record{Kind: Stopped, Step: "there"}, Record{Kind: Done, Step: "a"})

	file, _ := os.ReadFile(opts.Path)
	list, _ := s.List(key)
	var forked *ForkError
	if _, err := Open(t.Context(), opts); !errors.As(err, &forked) {
		t.Fatalf("Open = %v, want a ForkError", err)
	}
	want := ForkError{Path: opts.Path, Key: key, Seq: 3, LocalLen: 3, MirrorLen: 4}
	if diff := cmp.Diff(want, *forked); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := Read(t.Context(), opts); !errors.As(err, &forked) {
		t.Errorf("Read = %v, want a ForkError", err)
	}
	fileNow, _ := os.ReadFile(opts.Path)
	listNow, _ := s.List(key)
	if string(fileNow) != string(file) || !slices.Equal(listNow, list) {
		t.Error("a refused journal was changed")
	}
}

func TestADamagedMirrorIsRefused(t *testing.T) {
	s, client := server(t)
	opts := Options{Path: filepath.Join(t.TempDir(), "j"), Client: client, Key: key}
	fill(t, open(t, opts), script...)
	line, _ := s.Pop(key)
	if _, err := s.Push(key, strings.Replace(line, "complete", "Complete", 1)); err != nil {
		t.Fatal(err)
	}
	var damaged *DamagedError
	if _, err := Open(t.Context(), opts); !errors.As(err, &damaged) || damaged.Where != key {
		t.Errorf("Open = %v, want a DamagedError about %s", err, key)
	}
}

func TestALostFenceLeavesNoEntryAnywhere(t *testing.T) {
	s, client := server(t)
	if err := s.Set("lease", "mine"); err != nil {
		t.Fatal(err)
	}
	opts := Options{
		Path: filepath.Join(t.TempDir(), "j"), Client: client, Key: key,
		Fence: Fence{Key: "lease", Token: "mine"},
	}
	j := open(t, opts)
	fill(t, j, script[:2]...)
	want := j.Entries()
	for name, change := range map[string]func(){
		"taken over": func() { _ = s.Set("lease", "theirs") },
		"expired":    func() { s.Del("lease") },
	} {
		change()
		if err := j.Append(t.Context(), script[2]); !errors.Is(err, ErrFenced) {
			t.Errorf("%s: Append = %v, want ErrFenced", name, err)
		}
		got, err := Read(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		_ = s.Set("lease", "mine")
		j = open(t, opts)
	}
}

func TestAnAppendIsNotInterruptedBetweenTheTwoCopies(t *testing.T) {
	_, client := server(t)
	opts := Options{Path: filepath.Join(t.TempDir(), "j"), Client: client, Key: key}
	j := open(t, opts)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("interrupted")
	cancel(stop)
	if err := j.Append(ctx, script[0]); !errors.Is(err, stop) {
		t.Errorf("Append with a cancelled context = %v, want its cause", err)
	}
	fill(t, j, script[0]) // nothing was begun, so the journal is whole
}

func TestARedisThatIsGoneIsAnErrorAndTheEntryIsMirroredLater(t *testing.T) {
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	client := s.Client(t)
	opts := Options{Path: filepath.Join(t.TempDir(), "j"), Client: client, Key: key}
	j := open(t, opts)
	fill(t, j, script[:2]...)
	s.Kill(t)
	if err := j.Append(t.Context(), script[2]); err == nil {
		t.Fatal("Append without a Redis = nil, want an error")
	}
	if err := j.Append(t.Context(), script[3]); !errors.Is(err, ErrBroken) {
		t.Errorf("Append after a failed one = %v, want ErrBroken", err)
	}
	s.Restart(t)
	opts.Client = s.Client(t)
	if got := len(open(t, opts).Entries()); got != 3 {
		t.Errorf("%d entries after opening again, want 3", got)
	}
	if got := opts.Client.LLen(t.Context(), key).Val(); got != 3 {
		t.Errorf("%d entries in the mirror, want 3", got)
	}
}

func TestAReplyThatWasLostDoesNotDoubleTheEntry(t *testing.T) {
	s, client := server(t)
	m := &mirror{client: client, key: key, timeout: Options{}.withDefaults().Timeout}
	_, line, err := seal(nil, script[0], fixedTime)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.append(t.Context(), 1, line); err != nil {
			t.Fatal(err)
		}
	}
	if list, _ := s.List(key); len(list) != 1 {
		t.Errorf("%d lines, want 1", len(list))
	}
	if err := m.append(t.Context(), 3, line); !errors.Is(err, errOutOfStep) {
		t.Errorf("append of entry 3 after 1 = %v, want errOutOfStep", err)
	}
}

// TestThePriceOfAnEntry keeps the doc comments honest, on a real server.
func TestThePriceOfAnEntry(t *testing.T) {
	s := redistest.Start(t)
	client := s.Client(t)
	if err := client.Set(t.Context(), "lease", "mine", 0).Err(); err != nil {
		t.Fatal(err)
	}
	j := open(t, Options{
		Path: filepath.Join(t.TempDir(), "j"), Client: client, Key: key,
		Fence: Fence{Key: "lease", Token: "mine"},
	})
	fill(t, j, script[0]) // loads the script
	before := calls(t, client)
	fill(t, j, script[1])
	want := map[string]int{"evalsha": 1, "get": 1, "llen": 1, "rpush": 1}
	got := calls(t, client)
	for name, n := range before {
		if got[name] -= n; got[name] == 0 {
			delete(got, name)
		}
	}
	delete(got, "info")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("one entry costs (-want +got):\n%s", diff)
	}
}

// calls reads commandstats: how often each command ran, in scripts too.
func calls(t *testing.T, client redis.UniversalClient) map[string]int {
	t.Helper()
	out := map[string]int{}
	info, err := client.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !ok {
			continue
		}
		n := 0
		for _, c := range rest {
			if c < '0' || c > '9' {
				break
			}
			n = n*10 + int(c-'0')
		}
		out[name] = n
	}
	return out
}
