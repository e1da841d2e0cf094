package step

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
)

// Plan tells what would be saved and deleted. It writes nothing. Price: a SCAN over the database by 1,000
// keys, that of FindLeftovers, and 1 command.
func (p *Phase4) Plan(ctx context.Context) (migrate.Outline, error) {
	counts := make([]int64, len(p.plan.Prefixes))
	err := scan(ctx, p.client, p.plan.Prefixes, func(names []string) error {
		for _, name := range names {
			for i, prefix := range p.plan.Prefixes {
				if strings.HasPrefix(name, prefix) {
					counts[i]++
				}
			}
		}
		return nil
	})
	if err != nil {
		return migrate.Outline{}, err
	}
	size, err := p.client.DBSize(ctx).Result()
	if err != nil {
		return migrate.Outline{}, fmt.Errorf("count keys: %w", err)
	}
	all, err := FindLeftovers(ctx, p.client)
	if err != nil {
		return migrate.Outline{}, err
	}
	keys := int64(0)
	for _, n := range counts {
		keys += n
	}
	pages := size/1000 + 1
	look := pages + 20*int64(len(all)) + 2
	o := migrate.Outline{
		Target: p.Target(),
		Settings: []migrate.Setting{
			{Name: "backup", Value: p.plan.File},
			{Name: "keys", Value: fmt.Sprintf("%d of %d", keys, size)},
		},
		Steps: []migrate.OutlineStep{{
			Name: "phase4.backup", Summary: fmt.Sprintf("save %d keys to the backup", keys), Commands: look + pages + 4*keys, InScript: 4 * keys,
		}},
		Problems:        slices.Clone(p.Left),
		PointOfNoReturn: "when the backup file is deleted: until then redisopt rollback phase4 restores every key whose time is not over",
	}
	for i, prefix := range p.plan.Prefixes {
		o.Steps = append(o.Steps, migrate.OutlineStep{
			Name: deleteName(i, prefix), Summary: fmt.Sprintf("delete %d keys of %s", counts[i], prefix),
			Commands: look + pages + counts[i] + counts[i]/scanPage, InScript: 5 * counts[i], Writes: true,
		})
		if why := usedBy(all, prefix); why != "" && !slices.ContainsFunc(o.Problems, func(q migrate.Problem) bool { return q.Subject == prefix }) {
			o.Problems = append(o.Problems, migrate.Problem{
				Rule: "in-use", Subject: prefix, Message: prefix + " is in use: " + why, Blocking: true,
				Fix: "stop its workers and move or finish its jobs first: redisopt migrate phase3, redisopt queue drain",
			})
		}
		if counts[i] == 0 {
			o.Problems = append(o.Problems, migrate.Problem{Rule: "no-keys", Subject: prefix, Message: "no key begins with " + prefix})
		}
	}
	if slices.ContainsFunc(all, func(l Leftover) bool {
		return l.Workers < 0 && l.Queue.Layout != tend.Asynq && begins(l.Prefix, p.plan.Prefixes)
	}) {
		o.Problems = append(o.Problems, migrate.Problem{
			Rule: "workers-unknown", Message: "this server does not list its clients, so nobody here knows whether workers are connected",
			Fix: "see for yourself that no process uses these queues",
		})
	}
	o.Problems = append(o.Problems, p.fileProblems()...)
	if p.Facts != nil {
		o.Code = p.Facts.Code
		for _, one := range p.Facts.Packages {
			o.Application = append(o.Application, "remove the package "+one)
		}
		if len(p.Facts.Env) > 0 {
			o.Application = append(o.Application, "look whether these environment variables are still needed: "+strings.Join(p.Facts.Env, ", "))
		}
		for _, one := range p.Facts.Connections {
			o.Application = append(o.Application, "close the legacy connections of "+one)
		}
	}
	o.Claims = []migrate.Claim{{
		Target: "fewer commands and connections by deleting keys", Reachable: false,
		Why: "keys that nobody reads cost memory and nothing else: connections end with the processes that hold them",
	}}
	return o.Normal(), nil
}

// fileProblems says what of the backup file keeps the phase from beginning.
func (p *Phase4) fileProblems() []migrate.Problem {
	_, err := os.Lstat(p.plan.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return []migrate.Problem{{Rule: "backup-file", Subject: p.plan.File, Message: err.Error(), Fix: "choose another file with --backup", Blocking: true}}
	}
	summary, err := CheckBackup(p.plan.File)
	if err != nil {
		return []migrate.Problem{{
			Rule: "backup-file", Subject: p.plan.File, Message: "the file exists: " + err.Error(), Fix: "choose another file with --backup", Blocking: true,
		}}
	}
	if !slices.Equal(summary.Prefixes, p.plan.Prefixes) {
		return []migrate.Problem{{
			Rule: "backup-file", Subject: p.plan.File, Message: "the file exists and is the backup of " + strings.Join(summary.Prefixes, ", "),
			Fix: "choose another file with --backup", Blocking: true,
		}}
	}
	return []migrate.Problem{{
		Rule: "backup-file", Subject: p.plan.File, Message: fmt.Sprintf("the file is a backup of these prefixes with %d keys already: it is not made again", summary.Keys),
	}}
}

// PlanBack tells what restoring would do. It writes nothing. Price: none.
func (p *Phase4) PlanBack(context.Context) (migrate.Outline, error) {
	o := migrate.Outline{Target: p.Target(), Settings: []migrate.Setting{{Name: "backup", Value: p.plan.File}}}
	summary, err := CheckBackup(p.plan.File)
	if errors.Is(err, fs.ErrNotExist) {
		// Before the backup is whole nothing is deleted, so there is nothing to restore either.
		o.Problems = append(o.Problems, migrate.Problem{Rule: "backup-file", Subject: p.plan.File, Message: "there is no backup file: what was deleted cannot be restored without it"})
	} else if err != nil {
		o.Problems = append(o.Problems, migrate.Problem{Rule: "backup-file", Subject: p.plan.File, Message: err.Error(), Blocking: true})
	}
	o.Settings = append(o.Settings, migrate.Setting{Name: "keys", Value: fmt.Sprint(summary.Keys)})
	for i, prefix := range slices.Backward(p.plan.Prefixes) {
		o.Steps = append(o.Steps, migrate.OutlineStep{Name: deleteName(i, prefix), Summary: "restore the keys of " + prefix, Writes: true})
	}
	if len(o.Steps) > 0 {
		o.Steps[0].Commands, o.Steps[0].InScript = 2*summary.Keys, 8*summary.Keys
	}
	o.Steps = append(o.Steps, migrate.OutlineStep{Name: "phase4.backup", Summary: "keep the backup file"})
	return o.Normal(), nil
}
