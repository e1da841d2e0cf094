package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
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

func TestADamagedCopySaysWhetherTheOtherReplacesIt(t *testing.T) {
	spoilFile := func(t *testing.T, path string) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)/2] ^= 1
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	spoilMirror := func(t *testing.T, s *miniredis.Miniredis) {
		line, err := s.Pop(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Push(key, strings.Replace(line, "complete", "Complete", 1)); err != nil {
			t.Fatal(err)
		}
	}
	cut := func(t *testing.T, path string, lines int) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Join(strings.SplitAfter(string(content), "\n")[:lines], "")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		spoil       func(t *testing.T, s *miniredis.Miniredis, path string)
		inMirror    bool // it is the mirror that is damaged
		replaceable bool
		otherLen    int
		otherBad    bool
	}{
		"the file is damaged and the mirror is whole": {
			spoil: func(t *testing.T, _ *miniredis.Miniredis, path string) { spoilFile(t, path) }, replaceable: true, otherLen: len(script),
		},
		"the file is damaged and the mirror lacks the last entry": {
			spoil: func(t *testing.T, s *miniredis.Miniredis, path string) {
				spoilFile(t, path)
				if _, err := s.Pop(key); err != nil {
					t.Fatal(err)
				}
			}, replaceable: true, otherLen: len(script) - 1,
		},
		"the file is damaged and the mirror lost entries": {
			spoil: func(t *testing.T, s *miniredis.Miniredis, path string) {
				spoilFile(t, path)
				for range 2 {
					if _, err := s.Pop(key); err != nil {
						t.Fatal(err)
					}
				}
			}, otherLen: len(script) - 2,
		},
		"the file is damaged and the mirror is gone": {
			spoil: func(t *testing.T, s *miniredis.Miniredis, path string) { spoilFile(t, path); s.Del(key) },
		},
		"both are damaged": {
			spoil: func(t *testing.T, s *miniredis.Miniredis, path string) { spoilFile(t, path); spoilMirror(t, s) }, otherBad: true,
		},
		"the mirror is another thing": {
			spoil: func(t *testing.T, s *miniredis.Miniredis, path string) {
				spoilFile(t, path)
				s.Del(key)
				if err := s.Set(key, "x"); err != nil {
					t.Fatal(err)
				}
			}, otherBad: true,
		},
		"the mirror is damaged and the file is whole": {
			spoil: func(t *testing.T, s *miniredis.Miniredis, _ string) { spoilMirror(t, s) }, inMirror: true, replaceable: true, otherLen: len(script),
		},
		"the mirror is damaged and the file is one of before": {
			spoil: func(t *testing.T, s *miniredis.Miniredis, path string) { cut(t, path, 1); spoilMirror(t, s) }, inMirror: true, otherLen: 1,
		},
		"the mirror is damaged and there is no file": {
			spoil: func(t *testing.T, s *miniredis.Miniredis, path string) {
				spoilMirror(t, s)
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}, inMirror: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, client := server(t)
			opts := Options{Path: filepath.Join(t.TempDir(), "j"), Client: client, Key: key}
			fill(t, open(t, opts), script...)
			c.spoil(t, s, opts.Path)
			where, other := opts.Path, key
			if c.inMirror {
				where, other = other, where
			}
			_, readErr := Read(t.Context(), opts)
			_, openErr := Open(t.Context(), opts)
			for call, err := range map[string]error{"Read": readErr, "Open": openErr} {
				damaged, ok := errors.AsType[*DamagedError](err)
				if !ok {
					t.Fatalf("%s = %v, want a DamagedError", call, err)
				}
				if damaged.Where != where || damaged.Other != other || damaged.Replaceable() != c.replaceable ||
					damaged.OtherLen != c.otherLen || (damaged.OtherErr != nil) != c.otherBad {
					t.Errorf("%s = %+v, want damage of %s; replaceable %t by %d entries of %s, bad %t",
						call, damaged, where, c.replaceable, c.otherLen, other, c.otherBad)
				}
			}
		})
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
