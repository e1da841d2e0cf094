package migrate

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/history"
)

// An allowance is how many commands a provider's plan still allows, as somebody said once. It is kept beside the
// journals of a database, so that every host that comes later goes on counting; it ends with the month (UTC).
type allowance struct {
	Left    int64     `json:"left"`    // when it was last looked
	Reserve int64     `json:"reserve"` // of these, for others
	At      time.Time `json:"at"`
	RunID   string    `json:"run_id"`   // of the server that was looked at
	Counted int64     `json:"commands"` // what it had counted then, of everybody; negative before the first look
}

// allowanceFile is where the allowance of the database is whose journals are in the directory of readings.
func allowanceFile(readings string) string {
	return filepath.Join(filepath.Dir(readings), "allowance.json")
}

// readAllowance returns what was said this month, nil when nothing was. A file that cannot be read says nothing.
func readAllowance(path string, now time.Time) *allowance {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var a allowance
	if json.Unmarshal(text, &a) != nil || a.At.IsZero() {
		return nil
	}
	if !sameMonth(a.At, now) {
		return nil
	}
	return &a
}

// sameMonth is whether an allowance of the time a is still one at b: whether they are in one month (UTC).
func sameMonth(a, b time.Time) bool {
	a, b = a.UTC(), b.UTC()
	return a.Year() == b.Year() && a.Month() == b.Month()
}

// after is a once the server counts c. Commands that a server counted before it restarted, and that nobody saw, are
// not known any more.
func (a allowance) after(c history.Counters, now time.Time) allowance {
	spent := c.Commands
	switch {
	case a.Counted < 0:
		spent = 0
	case c.RunID == a.RunID && c.Commands >= a.Counted:
		spent -= a.Counted
	}
	a.Left, a.At, a.RunID, a.Counted = a.Left-spent, now.UTC(), c.RunID, c.Commands
	return a
}

// write keeps a whole or not at all. That it cannot be kept is nothing that stops a migration.
func (a allowance) write(path string) {
	text, err := json.Marshal(a)
	if err != nil {
		return
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".allowance-*")
	if err != nil {
		return
	}
	_, err = temporary.Write(text)
	if closeErr := temporary.Close(); err == nil && closeErr == nil && os.Rename(temporary.Name(), path) == nil {
		return
	}
	_ = os.Remove(temporary.Name()) // it is of no use
}
