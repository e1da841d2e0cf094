package step

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/backup"
	"github.com/redisopt/redisopt/internal/migrate/portable"
)

// A Save is the step that writes every key of the plan to the backup. It writes beside the file and renames
// it when it is whole and on disk, so a file of the plan's name is a whole one.
type Save struct{ phase *Phase4 }

// Name is the step's key in the journal.
func (s *Save) Name() string { return "phase4.backup" }

// A FileError reports that the backup cannot be kept in its file.
type FileError struct {
	File string
	Why  string
}

func (e *FileError) Error() string { return fmt.Sprintf("backup %s: %s", e.File, e.Why) }

// Apply writes the file. Memory is bounded by fifty keys of at most 200 values. Price: a SCAN over the
// database by 1,000 keys, and for each key 3 commands and 1 script of about 4.
func (s *Save) Apply(ctx context.Context) error {
	p := s.phase
	if _, err := os.Lstat(p.plan.File); err == nil {
		return &FileError{p.plan.File, "it exists, and is not of this plan; choose another one"}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := p.unused(ctx, p.plan.Prefixes); err != nil {
		return err
	}
	database, err := migrate.DatabaseID(ctx, p.client)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p.plan.File), 0o700); err != nil {
		return err
	}
	part := p.plan.File + ".part"
	file, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = s.write(ctx, file, backup.Header{
		Database: database, Prefixes: p.plan.Prefixes, Created: time.Now().UTC().Truncate(time.Second), Owner: migrate.Owner(),
	})
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := os.Rename(part, p.plan.File); err != nil {
		return err
	}
	return syncDir(filepath.Dir(p.plan.File))
}

// write streams the keys into file.
func (s *Save) write(ctx context.Context, file *os.File, h backup.Header) error {
	p := s.phase
	out, err := backup.NewWriter(file, h)
	if err != nil {
		return err
	}
	sealing := &sealingSink{Writer: out, seals: map[string]string{}}
	out.Seal = sealing.seal
	reader := portable.NewReader(p.client)
	done := int64(0)
	err = scan(ctx, p.client, p.plan.Prefixes, func(names []string) error {
		if err := p.env.Pace.Wait(ctx, len(names)); err != nil {
			return err
		}
		// Before the values: what is changed while they are read no longer fits its seal.
		all, err := portable.Seals(ctx, p.client, names)
		if err != nil {
			return err
		}
		clear(sealing.seals)
		for i, name := range names {
			if !all[i].Gone() { // else it came back, and nothing is known about it
				sealing.seals[name] = all[i].Text
			}
		}
		if _, err := reader.Read(ctx, names, sealing); err != nil {
			return err
		}
		done += int64(len(names))
		p.env.Tell(migrate.Progress{Step: s.Name(), Part: "save", Done: done, Unit: "keys"})
		return nil
	})
	if err != nil {
		return err
	}
	return out.Close()
}

// A sealingSink writes keys to a backup, and makes the seals of those that are too large to be sealed by the
// server: of exactly what is written.
type sealingSink struct {
	*backup.Writer

	seals  map[string]string // of the server
	digest portable.Digest
	large  bool // the key under way needs a seal of ours
}

// Begin begins a key.
func (s *sealingSink) Begin(k portable.Key) error {
	seal := s.seals[k.Name]
	s.large = seal != "" && !portable.Whole(seal)
	if s.large {
		if err := s.digest.Begin(k); err != nil {
			return err
		}
	}
	return s.Writer.Begin(k)
}

// Values adds values of the key.
func (s *sealingSink) Values(values []string) error {
	if s.large {
		if err := s.digest.Values(values); err != nil {
			return err
		}
	}
	return s.Writer.Values(values)
}

// End ends the key; the Writer asks for its seal.
func (s *sealingSink) End() error {
	if s.large {
		if err := s.digest.End(); err != nil {
			return err
		}
	}
	return s.Writer.End()
}

func (s *sealingSink) seal(name string) string {
	if !s.large {
		return s.seals[name]
	}
	defer clear(s.digest.Keys)
	return s.digest.Keys[name].Seal()
}

// Verify reads the whole file. Price: 1 command.
func (s *Save) Verify(ctx context.Context) error {
	p := s.phase
	summary, err := CheckBackup(p.plan.File)
	if errors.Is(err, fs.ErrNotExist) {
		return migrate.ErrNotApplied
	}
	if err != nil {
		return err
	}
	database, err := migrate.DatabaseID(ctx, p.client)
	if err != nil {
		return err
	}
	switch {
	case summary.Database != database:
		return &FileError{p.plan.File, "it was made of another database"}
	case !slices.Equal(summary.Prefixes, p.plan.Prefixes):
		return &FileError{p.plan.File, "it has the keys of " + strings.Join(summary.Prefixes, ", ")}
	}
	return nil
}

// Rollback keeps the file: it may be needed again.
func (s *Save) Rollback(context.Context) error { return nil }

// CheckBackup reads a whole backup file and tells what it holds.
//
// With prefixes, a *PrefixError tells of the first of them with which no key in the file begins and which is not one
// that the file was made of.
func CheckBackup(path string, prefixes ...string) (backup.Summary, error) {
	file, err := os.Open(path)
	if err != nil {
		return backup.Summary{}, err
	}
	found := make([]bool, len(prefixes))
	summary, err := backup.Read(file, backup.ReadOptions{Want: func(k portable.Key) bool {
		for i, prefix := range prefixes {
			found[i] = found[i] || strings.HasPrefix(k.Name, prefix)
		}
		return false
	}})
	if err = errors.Join(err, file.Close()); err != nil {
		return summary, fmt.Errorf("%s: %w", path, err)
	}
	for i, prefix := range prefixes {
		if !found[i] && !slices.Contains(summary.Prefixes, prefix) {
			return summary, &PrefixError{Path: path, Prefix: prefix, Has: summary.Prefixes}
		}
	}
	return summary, nil
}

// A PrefixError reports a prefix of which a backup has no key.
type PrefixError struct {
	Path   string
	Prefix string
	Has    []string // those that the backup was made of
}

func (e *PrefixError) Error() string {
	return fmt.Sprintf("prefix %q: no key in %s begins with it; the file has the keys of %s", e.Prefix, e.Path, strings.Join(e.Has, ", "))
}

// syncDir makes a renamed file survive a power cut, where the system can.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrInvalid) {
		err = nil
	}
	return errors.Join(err, dir.Close())
}
