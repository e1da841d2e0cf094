package control

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

func keptOf(epoch int64) kept {
	return kept{Stored: Document{Schema: Schema, Epoch: epoch, Kill: []string{"r"}}.normal()}
}

func TestACrashAtAnyStepLeavesTheOldDocumentOrTheNewOne(t *testing.T) {
	errCrash := errors.New("crash")
	steps := []string{"directory", "create", "write", "write the rest", "sync", "rename", "sync directory"}
	for i, at := range steps {
		t.Run("before "+at, func(t *testing.T) {
			dir := t.TempDir()
			if err := (disk{dir: dir}).save(keptOf(1)); err != nil {
				t.Fatal(err)
			}
			var seen []string
			d := disk{dir: dir, step: func(name string) error {
				seen = append(seen, name)
				if name == at {
					return errCrash
				}
				return nil
			}}
			if err := d.save(keptOf(2)); !errors.Is(err, errCrash) || len(seen) != i+1 {
				t.Fatalf("save = %v after %v, want the crash at step %d", err, seen, i+1)
			}
			want := int64(1)
			if at == "sync directory" {
				want = 2 // it is there already, only its survival of a power cut is not
			}
			k, err := (disk{dir: dir}).load()
			if err != nil || k.Stored.Epoch != want {
				t.Errorf("load = epoch %d, %v, want epoch %d", k.Stored.Epoch, err, want)
			}
			if err := (disk{dir: dir}).save(keptOf(3)); err != nil {
				t.Errorf("the next write: %v", err)
			}
			if k, err := (disk{dir: dir}).load(); err != nil || k.Stored.Epoch != 3 {
				t.Errorf("after the next write: epoch %d, %v", k.Stored.Epoch, err)
			}
		})
	}
}

func TestADamagedFileIsToldFromAValidOne(t *testing.T) {
	d := disk{dir: t.TempDir()}
	if err := d.save(keptOf(1)); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(d.path())
	if err != nil {
		t.Fatal(err)
	}
	write := func(t *testing.T, text []byte) {
		t.Helper()
		if err := os.WriteFile(d.path(), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("cut at every byte", func(t *testing.T) {
		for n := range len(whole) - 1 { // without its line break it is whole
			write(t, whole[:n])
			if _, err := d.load(); err == nil {
				t.Errorf("cut after %d bytes: no error", n)
			}
		}
	})
	t.Run("every byte changed", func(t *testing.T) {
		for n := range whole {
			text := append([]byte(nil), whole...)
			text[n] ^= 0x01
			write(t, text)
			k, err := d.load()
			if err == nil && fmt.Sprint(k) != fmt.Sprint(keptOf(1)) {
				t.Errorf("byte %d changed: read as %+v", n, k)
			}
		}
	})
	t.Run("opening goes on without it, and the next document replaces it", func(t *testing.T) {
		write(t, []byte("{"))
		s := newStore()
		c := replica(t, s, d.dir)
		if state := c.State(); state.Source != FromNowhere || state.Err == nil {
			t.Errorf("with a damaged file: %+v", state)
		}
		update(t, c, ramp("r", 1))
		if state := c.State(); state.Err != nil {
			t.Errorf("after a change: %v", state.Err)
		}
		if k, err := d.load(); err != nil || k.Stored.Epoch != 1 {
			t.Errorf("load = %+v, %v", k, err)
		}
	})
	t.Run("what a newer program wrote is not opened", func(t *testing.T) {
		write(t, []byte(`{"schema":2,"crc32c":0,"body":{}}`))
		_, err := Open(Options{Client: newStore().client(), StateDir: d.dir})
		if newer, ok := errors.AsType[*SchemaError](err); !ok || newer.Got != 2 {
			t.Errorf("Open = %v, want a *SchemaError", err)
		}
	})
}
