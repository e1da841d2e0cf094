package mover

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// enterLosses are those of a queue as a whole on its way to asynq.
func (p *planner) enterLosses(ctx context.Context) error {
	e, n := p.opts.From, p.plan.Counts
	if n[Delayed] > 0 {
		p.lose(Loss{
			Field: "due", Was: "milliseconds", Becomes: "whole seconds", Reversible: true,
			Why: "asynq counts seconds: a delayed job runs in the second after it is due, never before",
		})
	}
	if n[Completed] > 0 {
		p.lose(Loss{
			Field: "completed", Was: fmt.Sprintf("%d jobs, as long as removeOnComplete says", n[Completed]), Becomes: "7 days, or its age",
			Why: "asynq keeps nothing for ever, and redisopt's own queues only as many as completed.count of the queue says",
		})
	}
	stay, err := p.overArchive(ctx)
	if err != nil {
		return err
	}
	if stay > 0 {
		p.problem(archiveProblem(e, stay))
	}
	if n[Failed] > stay {
		p.lose(Loss{
			Field: "failed", Was: fmt.Sprintf("%d jobs, for ever", n[Failed]-stay), Becomes: "dead letters, 90 days at most",
			Why: "asynq deletes dead letters that are older, redisopt's own queues as failed.age of the queue says, 7 days by default",
		})
	}
	order := ""
	switch {
	case e.Layout == Bull:
		prioritized, err := p.client.ZRangeWithScores(ctx, e.Key("priority"), 0, 0).Result()
		if err != nil {
			return fmt.Errorf("read %q: %w", e.Key("priority"), err)
		}
		if len(prioritized) > 0 {
			order = "high"
		}
	case n[Prioritized] > 0:
		order = "low"
	}
	if order != "" {
		p.lose(Loss{
			Field: "order", Was: "by priority", Becomes: "in the order in which they were moved or added, in band " + order, Reversible: true,
			Why: "asynq has three bands and no priorities inside one; each band gets turns while others have jobs",
		})
	}
	p.lose(Loss{
		Field: "timeout", Was: "none", Becomes: "that of the queue, 30 minutes by default", Reversible: true,
		Why: "redisopt's own queues end an attempt after a time; jobs with a timeout keep theirs",
	})
	p.lose(Loss{
		Field: "id", Was: "5", Becomes: p.opts.To.Queue + ":5", Reversible: true,
		Why: "asynq tells running jobs apart by id over all queues, so the numbers of a counter get the queue's name before them; other ids stay",
	})
	metrics, err := p.client.Exists(ctx, e.Key("metrics:completed"), e.Key("metrics:failed")).Result()
	if err != nil {
		return fmt.Errorf("look for metrics of %s: %w", e, err)
	}
	if metrics > 0 {
		p.lose(Loss{Field: "metrics", Was: "counts per minute", Why: "asynq counts by day; the old counts stay under " + e.Key("metrics:*"), Reversible: true})
	}
	return nil
}

func archiveProblem(e Endpoint, n int64) Problem {
	return Problem{Rule: "archive-limit", Message: fmt.Sprintf(
		"%d failed jobs stay in %s: asynq would delete them with its next dead letter, since it keeps at most %d of a band, and %d days",
		n, e.Key("failed"), archiveMost, archiveDays)}
}

// overArchive is how many failed jobs asynq would delete at its next dead letter. Price: 5 commands.
func (m *Mover) overArchive(ctx context.Context) (int64, error) {
	room, err := m.archiveRoom(ctx)
	if err != nil {
		return 0, err
	}
	key := m.opts.From.Key("failed")
	all, err := m.client.ZCard(ctx, key).Result()
	if err != nil {
		return 0, fmt.Errorf("count %q: %w", key, err)
	}
	young, err := m.client.ZCount(ctx, key, strconv.FormatInt(m.archiveCut()*1000, 10), "+inf").Result()
	if err != nil {
		return 0, fmt.Errorf("count %q: %w", key, err)
	}
	return all - min(young, room), nil
}

// archiveCut is when a job must have failed for asynq to keep it, in Unix seconds.
func (m *Mover) archiveCut() int64 { return m.opts.now().AddDate(0, 0, -archiveDays).Unix() + 60 }

// archiveRoom is how many dead letters the fullest band still takes.
func (m *Mover) archiveRoom(ctx context.Context) (int64, error) {
	var most int64
	for _, part := range m.opts.To.parts() {
		n, err := m.client.ZCard(ctx, part.Key("archived")).Result()
		if err != nil {
			return 0, fmt.Errorf("count %q: %w", part.Key("archived"), err)
		}
		most = max(most, n)
	}
	return max(0, archiveMost-most), nil
}

// fits cuts from a window of failed jobs, newest first, what asynq would not keep.
func (r *run) fits(next []entry) []entry {
	cut := r.archiveCut() * 1000
	for i, e := range next {
		failed, err := strconv.ParseFloat(e.score, 64)
		if err == nil && failed < float64(cut) || int64(i) >= r.room {
			return next[:i]
		}
	}
	return next
}

// leaveLosses are those of a queue as a whole on its way from asynq, and what keeps it there.
func (p *planner) leaveLosses(ctx context.Context) error {
	for _, part := range p.opts.From.parts() {
		groups, err := p.client.SCard(ctx, part.Key("groups")).Result()
		if err != nil {
			return fmt.Errorf("count %q: %w", part.Key("groups"), ignoreReplies(err))
		}
		if groups > 0 {
			p.problem(Problem{Rule: "aggregating", Message: fmt.Sprintf(
				"jobs of %d groups wait in %s: %s has no groups, they stay", groups, part.Key("g:*"), libraryName(p.opts.To.Layout))})
		}
	}
	return nil
}

// leaveSchedules reads the schedules of redisopt's own for the queue, and what they would become.
func (p *planner) leaveSchedules(ctx context.Context) error {
	mine, err := cronFields(ctx, p.client, p.opts.From)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(mine)) {
		l, problem, err := p.readLeaving(ctx, name, mine[name])
		if err != nil {
			return err
		}
		if problem != nil {
			p.problem(*problem)
			continue
		}
		p.lose(l.losses...)
		if l.tickID != "" {
			p.pending[l.tickID] = true
		}
		if len(p.plan.Repeats) < maxKept {
			job := "__default__"
			if l.plan.Job != nil && l.plan.Job.Name != "" {
				job = l.plan.Job.Name
			}
			p.plan.Repeats = append(p.plan.Repeats, Repeat{
				Key: name, TargetKey: l.member, Name: job, Pattern: l.plan.Cron, EveryMS: l.plan.EveryS * 1000, TZ: l.plan.Zone,
				NextMS: l.nextMS, PendingID: l.tickID,
			})
		}
	}
	return nil
}

// planEnter says what a scheduler becomes among redisopt's own schedules.
func (p *planner) planEnter(ctx context.Context, s *scheduled) (*scheduled, *Problem, error) {
	data, err := p.client.HGet(ctx, p.opts.From.Key(s.job.ID), "data").Result()
	if err = ignoreReplies(err); err != nil {
		return nil, nil, err
	}
	c, problem := s.toCron(&p.opts, data, s.offset)
	if problem != nil {
		return nil, problem, nil
	}
	taken, err := p.client.HExists(ctx, cronKey, cronSchedule+c.Name).Result()
	if err != nil {
		return nil, nil, fmt.Errorf("read %q: %w", cronKey, err)
	}
	if taken {
		return nil, &Problem{JobID: s.repeat.Key, Rule: "collision", Message: fmt.Sprintf(
			"there is a schedule %q already: it would fire twice", c.Name)}, nil
	}
	return s, nil, nil
}

// logs names the jobs of a page that have log lines, which asynq has no place for.
func (p *planner) logs(ctx context.Context, claims []claim) error {
	if p.opts.To.Layout != Asynq {
		return nil
	}
	keys := make([]string, len(claims))
	for i, k := range claims {
		keys[i] = p.opts.From.Key(k.id + ":logs")
	}
	return eachExisting(ctx, p.client, keys, func(i int) {
		p.lose(Loss{JobID: claims[i].id, Field: "logs", Was: "some", Why: "asynq keeps no log lines; they stay in " + keys[i], Reversible: true})
	})
}

// leaveOld reports the failed jobs that stay, other than those that were skipped already.
func (r *run) leaveOld(ctx context.Context, skipped int) error {
	key := r.opts.From.Key("failed")
	n, err := r.client.ZCard(ctx, key).Result()
	if err != nil {
		return fmt.Errorf("count %q: %w", key, err)
	}
	if n -= int64(skipped); n > 0 {
		r.stays += n
		r.skipped = append(r.skipped, archiveProblem(r.opts.From, n))
	}
	return nil
}
