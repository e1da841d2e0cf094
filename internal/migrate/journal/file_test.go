package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
)

// crashDisk is a file in memory that knows which of its bytes a power cut would leave.
type crashDisk struct {
	now, durable []byte
	room         int // bytes that still fit; negative: no limit
	failSync     bool
	syncs        int
}

func (d *crashDisk) WriteAt(p []byte, off int64) (int, error) {
	n := len(p)
	if d.room >= 0 {
		n = min(n, d.room)
		d.room -= n
	}
	d.now = append(d.now[:off], p[:n]...)
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (d *crashDisk) Sync() error {
	d.syncs++
	if d.failSync {
		return errors.New("input/output error")
	}
	d.durable = slices.Clone(d.now)
	return nil
}

func (d *crashDisk) Truncate(size int64) error {
	d.now = d.now[:size]
	return nil
}

func (d *crashDisk) Close() error { return nil }

// onDisk returns a journal without a mirror that writes to d.
func onDisk(d *crashDisk) *Journal { return &Journal{local: &local{path: "j", disk: d}} }

// resealed puts a right hash on body, which ends in a brace.
func resealed(t *testing.T, body string) string {
	t.Helper()
	head := body[:len(body)-1]
	sum := sha256.Sum256([]byte(head))
	return head + hashOpen + hex.EncodeToString(sum[:]) + hashClose
}

func TestWhatAppendAcknowledgedSurvivesAPowerCut(t *testing.T) {
	d := &crashDisk{room: -1}
	j := onDisk(d)
	for i, rec := range script {
		if err := j.Append(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		if d.syncs != i+1 {
			t.Errorf("after %d entries: %d syncs, want one an entry", i+1, d.syncs)
		}
		if got, want := len(d.durable), int(j.local.size); got != want {
			t.Errorf("after %d entries: %d bytes durable, want %d", i+1, got, want)
		}
	}
}

func TestAFullDiskIsAnErrorAndWhatWasThereStays(t *testing.T) {
	synctest.Test(t, fullDisk) // where time stands still, so that entries are of one length every time
}

func fullDisk(t *testing.T) {
	whole := &crashDisk{room: -1}
	j := onDisk(whole)
	fill(t, j, script...)
	for room := range len(whole.now) {
		d := &crashDisk{room: room}
		j := onDisk(d)
		acknowledged := 0
		var failure error
		for _, rec := range script {
			if failure = j.Append(t.Context(), rec); failure != nil {
				break
			}
			acknowledged++
		}
		if !errors.Is(failure, syscall.ENOSPC) {
			t.Fatalf("room for %d bytes: Append = %v, want ENOSPC", room, failure)
		}
		if got := len(j.Entries()); got != acknowledged {
			t.Fatalf("room for %d bytes: %d entries, want the %d acknowledged", room, got, acknowledged)
		}
		if int64(len(d.now)) != j.local.size {
			t.Fatalf("room for %d bytes: %d bytes left behind, want %d", room, len(d.now), j.local.size)
		}
	}
}

func TestAFailedSyncIsNotTriedAgainOnTheSameFile(t *testing.T) {
	d := &crashDisk{room: -1, failSync: true}
	j := onDisk(d)
	if err := j.Append(t.Context(), script[0]); err == nil {
		t.Fatal("Append with a failing sync = nil")
	}
	d.failSync = false // a kernel may report a lost page only once
	if err := j.Append(t.Context(), script[0]); !errors.Is(err, ErrBroken) {
		t.Errorf("second Append = %v, want ErrBroken", err)
	}
	if len(d.durable) != 0 {
		t.Errorf("%d bytes became durable after the failure, want 0", len(d.durable))
	}
}

func TestARealFullDeviceIsAnError(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /dev/full")
	}
	j := &Journal{local: &local{path: "/dev/full", disk: fullDevice(t)}}
	if err := j.Append(t.Context(), script[0]); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Append to /dev/full = %v, want ENOSPC", err)
	}
}
