package rehearsal

import (
	"context"
	"encoding/json"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/journal"
)

// A diary is a journal in memory: nothing of a rehearsal comes near the real one.
type diary struct{ entries []journal.Entry }

// Append adds an entry.
func (d *diary) Append(_ context.Context, rec journal.Record) error {
	e := journal.Entry{Schema: 1, Seq: int64(len(d.entries)) + 1, Time: time.Now().UTC(), Kind: rec.Kind, Step: rec.Step}
	if rec.Detail != nil {
		detail, err := json.Marshal(rec.Detail)
		if err != nil {
			return err
		}
		e.Detail = detail
	}
	d.entries = append(d.entries, e)
	return nil
}

// Entries are all entries so far.
func (d *diary) Entries() []journal.Entry { return d.entries }

// replan is the diary of an open migration as if it had been begun with what is rehearsed, which differs
// from the real plan in how long it waits.
func (d *diary) replan(plan string, options any) error {
	raw, err := json.Marshal(options)
	if err != nil {
		return err
	}
	for i := range d.entries {
		e := &d.entries[i]
		if e.Kind != journal.Begin {
			continue
		}
		begun := map[string]json.RawMessage{}
		if err := json.Unmarshal(e.Detail, &begun); err != nil {
			return err
		}
		if begun["plan"], err = json.Marshal(plan); err != nil {
			return err
		}
		begun["options"] = raw
		if e.Detail, err = json.Marshal(begun); err != nil {
			return err
		}
	}
	return nil
}

// env is what a phase on the stage is given: checkpoints in the diary, no lease, no pace, no bell.
func (w *walker) env() migrate.Env {
	return migrate.Env{
		Checkpoint: func(ctx context.Context, step string, detail any) error {
			return w.engine.Checkpoint(ctx, step, detail)
		},
		Last: func(step string) json.RawMessage {
			state, err := migrate.ReadState(w.diary.entries)
			if err != nil {
				return nil
			}
			return migrate.Standing{State: state}.Checkpoint(step)
		},
	}
}
