package step

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/backup"
	"github.com/redisopt/redisopt/internal/migrate/portable"
)

// A Delete is the step that deletes the keys of one prefix: those in the backup that are still what was
// saved. What is new or changed stays, and is an error.
type Delete struct {
	name   string
	prefix string
	phase  *Phase4
}

// A DeleteNote is what Delete keeps in the journal.
type DeleteNote struct {
	Deleted int64 `json:"deleted"`
	Gone    int64 `json:"gone"` // that were not there any more: expired, or deleted by an earlier attempt
	Changed int64 `json:"changed"`
}

// A LeftoversError reports keys of a prefix that were not deleted because they are not what was saved.
type LeftoversError struct {
	Prefix string
	Count  int64
	Keys   []string // the first few
}

func (e *LeftoversError) Error() string {
	return fmt.Sprintf("%d keys of %s are new or were changed since the backup, and stay: %s", e.Count, e.Prefix, some(e.Keys))
}

// Is makes it one of migrate.ErrNotApplied: the step may be applied again.
func (e *LeftoversError) Is(target error) bool { return target == migrate.ErrNotApplied }

// Name is the step's key in the journal.
func (d *Delete) Name() string { return d.name }

// Apply deletes, once the backup was read whole and is found to be of these keys: nothing is deleted that a
// damaged file could not give back. Price: for each key 1 script of about 5 commands, fifty in one round trip,
// and for a key of more than a thousand values 6 commands and 1 for every 200 of them; besides that of Phase4's
// check that nobody uses them.
func (d *Delete) Apply(ctx context.Context) error {
	p := d.phase
	if err := (&Save{phase: p}).Verify(ctx); errors.Is(err, migrate.ErrNotApplied) {
		return &FileError{p.plan.File, "it is gone, and without it nothing is deleted"}
	} else if err != nil {
		return err
	}
	if err := p.unused(ctx, []string{d.prefix}); err != nil {
		return err
	}
	var note DeleteNote
	var names, seals []string
	flush := func() error {
		if err := p.env.Pace.Wait(ctx, len(names)); err != nil {
			return err
		}
		if err := holdsLease(ctx, p.client, p.env); err != nil {
			return err
		}
		answers, err := portable.Unlink(ctx, p.client, names, seals)
		if err != nil {
			return err
		}
		for _, a := range answers {
			switch a {
			case portable.Gone:
				note.Gone++
			case portable.Changed:
				note.Changed++
			default:
				note.Deleted++
			}
		}
		names, seals = names[:0], seals[:0]
		p.env.Tell(migrate.Progress{Step: d.name, Part: "delete " + d.prefix, Done: note.Deleted + note.Gone + note.Changed, Unit: "keys"})
		return nil
	}
	err := readBackup(p.plan.File, backup.ReadOptions{
		Want: d.wants,
		Entry: func(e backup.Entry) error {
			if e.Seal == "" {
				return nil // not sealed: it is not known to be what was saved
			}
			names, seals = append(names, e.Name), append(seals, e.Seal)
			if len(names) < scanPage {
				return nil
			}
			return flush()
		},
	})
	if err == nil {
		err = flush()
	}
	return errors.Join(err, p.env.Note(context.WithoutCancel(ctx), d.name, note))
}

func (d *Delete) wants(k portable.Key) bool { return strings.HasPrefix(k.Name, d.prefix) }

func readBackup(path string, opts backup.ReadOptions) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = backup.Read(file, opts)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return errors.Join(err, file.Close())
}

// Verify looks for keys that are left. Price: a SCAN over the database by 1,000 keys.
func (d *Delete) Verify(ctx context.Context) error {
	left := &LeftoversError{Prefix: d.prefix}
	err := scan(ctx, d.phase.client, []string{d.prefix}, func(names []string) error {
		left.Count += int64(len(names))
		if len(left.Keys) < scanPage {
			left.Keys = append(left.Keys, names...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if left.Count > 0 {
		return left
	}
	return nil
}

// Rollback restores what was deleted. Price: that of Restore.
func (d *Delete) Rollback(ctx context.Context) error {
	_, err := Restore(ctx, d.phase.client, d.phase.plan.File, RestoreOptions{Prefixes: []string{d.prefix}, Step: d.name, Env: d.phase.env})
	return err
}

// RestoreOptions say what is restored.
type RestoreOptions struct {
	// Prefixes are those of the keys that are restored; none means all.
	Prefixes []string

	// Step is what progress is reported as.
	Step string

	// Env gives fence, pace and progress.
	Env migrate.Env
}

// A Restored is what Restore did.
type Restored struct {
	Keys    int64 `json:"keys"`    // that are there now as they were saved
	Written int64 `json:"written"` // of them, by this run
	Expired int64 `json:"expired"` // whose time was over before
}

// A RestoreError reports keys that are there and are not what was saved; nothing of them was touched.
type RestoreError struct {
	Count int64
	Keys  []string // the first few
}

func (e *RestoreError) Error() string {
	return fmt.Sprintf("%d keys exist and differ from the backup: %s", e.Count, some(e.Keys))
}

// Restore writes the keys of a backup that are not there, and compares every one with its seal afterwards.
// It may run again after a crash at any instant: each key appears whole or not at all. A key that is there
// and differs is left as it is and reported by a *RestoreError when all others are written. The file is
// read whole before the first key is written. Price: for each key 1 script of 2 to 4 commands and 1 of
// about 4, for a large one 1 command more for every thousand values.
func Restore(ctx context.Context, client redis.UniversalClient, path string, opts RestoreOptions) (Restored, error) {
	var out Restored
	if _, err := CheckBackup(path); err != nil {
		return out, err
	}
	writer := portable.NewWriter(ctx, client)
	writer.Written = func(_ portable.Key, err error) {
		if err == nil {
			out.Written++
		}
	}
	bad := &RestoreError{}
	var entries []backup.Entry
	check := func() error {
		if err := writer.Flush(); err != nil {
			return err
		}
		differ, expired, err := differing(ctx, client, entries)
		if err != nil {
			return err
		}
		out.Keys += int64(len(entries)-len(differ)) - expired
		out.Expired += expired
		bad.Count += int64(len(differ))
		bad.Keys = append(bad.Keys, differ[:min(len(differ), scanPage-len(bad.Keys))]...)
		entries = entries[:0]
		opts.Env.Tell(migrate.Progress{Step: opts.Step, Part: "restore", Done: out.Keys, Unit: "keys"})
		if err := opts.Env.Pace.Wait(ctx, scanPage); err != nil {
			return err
		}
		return holdsLease(ctx, client, opts.Env)
	}
	now := time.Now()
	err := readBackup(path, backup.ReadOptions{
		Want: func(k portable.Key) bool {
			if !begins(k.Name, opts.Prefixes) {
				return false
			}
			if !k.ExpireAt.IsZero() && !k.ExpireAt.After(now) {
				out.Expired++
				return false
			}
			return true
		},
		Sink: writer,
		Entry: func(e backup.Entry) error {
			if entries = append(entries, e); len(entries) < scanPage {
				return nil
			}
			return check()
		},
	})
	if err == nil {
		err = check()
	}
	if err != nil {
		return out, err
	}
	if bad.Count > 0 {
		return out, bad
	}
	return out, nil
}

// clockSlack is by how much the server's clock may be ahead of this one when a key has expired there.
const clockSlack = 5 * time.Second

// differing are the names of entries whose keys are not what was saved, and how many others have expired. Price: 1 script of about 4 commands for
// each, and for those of more than a thousand values 3 commands and 1 for every 200 of them.
func differing(ctx context.Context, client redis.UniversalClient, entries []backup.Entry) (out []string, expired int64, err error) {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name
	}
	now, err := portable.Seals(ctx, client, names)
	if err != nil {
		return nil, 0, err
	}
	for i, e := range entries {
		switch {
		case now[i].Gone() && !e.ExpireAt.IsZero() && time.Until(e.ExpireAt) < clockSlack:
			expired++
			continue
		case e.Seal == now[i].Text, e.Seal == "" && !now[i].Gone():
			continue
		case !now[i].Gone() && !portable.Whole(now[i].Text):
			whole, err := portable.Summarize(ctx, client, e.Name)
			if err != nil {
				return nil, 0, err
			}
			if e.Seal == whole.Seal() {
				continue
			}
		}
		out = append(out, e.Name)
	}
	return out, expired, nil
}

// begins is whether name begins with one of prefixes; with none it does.
func begins(name string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return len(prefixes) == 0
}
