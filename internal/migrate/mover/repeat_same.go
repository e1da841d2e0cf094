package mover

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// sameScheduler works out what a scheduler of BullMQ is under another prefix: itself. One that was made with
// the repeat option, which BullMQ 6 no longer schedules by, becomes a job scheduler on its way to 6, under
// the id it had.
func (s *scheduled) sameScheduler(ctx context.Context, client redis.UniversalClient, opts *Options) error {
	key := opts.From.Key("repeat:" + s.repeat.Key)
	fields, err := client.HGetAll(ctx, key).Result()
	if err != nil {
		return fmt.Errorf("read %q: %w", key, err)
	}
	s.repeat.TargetKey, s.newID = s.repeat.Key, s.job.ID
	s.change = change{newID: s.newID, after: s.job.before}
	if s.repeat.Count == 0 && opts.To.Major == 6 {
		s.upsert(fields)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		s.hash = append(s.hash, name, fields[name])
	}
	return nil
}

// upsert adds to the fields of a scheduler, and to its pending job, what makes a job scheduler of an old
// repeatable.
func (s *scheduled) upsert(fields map[string]string) {
	raw := s.job.before.val[fieldOpts]
	opts, err := parseObject(raw)
	if err != nil {
		return
	}
	given, _ := opts.get("repeat")
	rep, err := parseObject(orEmpty(given))
	if err != nil {
		return
	}
	count, ok := rep.integer("count")
	if !ok || count < 1 {
		count = 1
	}
	fields["name"], fields["ic"] = s.name, strconv.FormatInt(count, 10)
	for _, name := range []string{"pattern", "tz"} {
		if text, ok := rep.text(name); ok {
			fields[name] = text
		}
	}
	for _, name := range []string{"every", "limit"} {
		if n, ok := rep.get(name); ok {
			fields[name] = n
		}
	}
	for _, name := range []string{"startDate", "endDate"} {
		if ms, ok := dateMS(rep, name); ok && ms != 0 {
			fields[name] = strconv.FormatInt(ms, 10)
			rep = rep.with(name, strconv.FormatInt(ms, 10))
		}
	}
	if fields["every"] != "" {
		every, _ := strconv.ParseInt(fields["every"], 10, 64)
		if every > 0 {
			fields["offset"] = strconv.FormatInt(s.repeat.NextMS%every, 10)
			rep = rep.with("offset", fields["offset"])
		}
	}
	template := opts.clone()
	for _, name := range []string{"repeat", "jobId", "delay", "timestamp", "prevMillis", "repeatJobKey"} {
		template = template.without(name)
	}
	fields["opts"] = template.String()
	after := s.job.before
	after.set(fieldRjk, s.repeat.Key)
	after.set(fieldOpts, opts.with("repeat", rep.without("key").with("count", strconv.FormatInt(count, 10)).String()).
		with("repeatJobKey", quote(s.repeat.Key)).String())
	s.change.after = after
	s.change.hset, s.change.hdel = difference(&s.job.before, &after)
	s.change.losses = append(s.change.losses, Loss{
		JobID: s.repeat.Key, Field: "scheduler", Was: "made with the repeat option", Becomes: "job scheduler " + s.repeat.Key,
		Why: "BullMQ 6 schedules nothing by the repeat option: upsert it under this id in the application",
	})
}
