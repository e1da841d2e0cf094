package mover

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
)

// Limits of asynq 0.26: each dead letter that comes after removes what exceeds them.
const (
	archiveMost = 9999      // dead letters of a band that stay
	archiveDays = 90        // days that they stay
	keepResult  = 7 * 86400 // seconds that a finished job stays whose options have no age
	lockLife    = 30 * 86400
)

// asynqPrefix is what the names of all keys of asynq begin with; it is no choice.
const asynqPrefix = "asynq"

// The bands of a queue, each a queue of asynq's own. Their numbers are those that the scripts know.
const (
	bandNormal = iota
	bandHigh
	bandLow
	numBands
)

func bandSuffix(band int) string { return [numBands]string{"", ":high", ":low"}[band] }

// part is one band of e as an endpoint of its own. Other layouts have one band.
func (e Endpoint) part(band int) Endpoint {
	if e.Layout == Asynq {
		e.Queue += bandSuffix(band)
	}
	return e
}

// parts are the bands of e, or e itself.
func (e Endpoint) parts() []Endpoint {
	if e.Layout != Asynq {
		return []Endpoint{e}
	}
	all := make([]Endpoint, numBands)
	for band := range all {
		all[band] = e.part(band)
	}
	return all
}

// jobKey is the key of the hash of a job.
func (e Endpoint) jobKey(id string) string {
	if e.Layout == Asynq {
		return e.Key("t:" + id)
	}
	return e.Key(id)
}

// validateAsynq says what keeps e from being a queue of asynq as redisopt's own queues name them.
func (e Endpoint) validateAsynq(which string) []error {
	var errs []error
	if e.Major != 0 {
		errs = append(errs, fmt.Errorf("%s: asynq major %d, want none", which, e.Major))
	}
	if e.Prefix != asynqPrefix {
		errs = append(errs, fmt.Errorf("%s: asynq has the key prefix %q, got %q", which, asynqPrefix, e.Prefix))
	}
	switch {
	case len(e.Queue) > 200 || !utf8.ValidString(e.Queue) || strings.ContainsFunc(e.Queue, func(r rune) bool { return !unicode.IsPrint(r) }):
		errs = append(errs, fmt.Errorf("%s: queue name %q, want at most 200 bytes of printable UTF-8", which, e.Queue))
	case strings.ContainsAny(e.Queue, "{}"):
		errs = append(errs, fmt.Errorf("%s: queue name %q, want no braces", which, e.Queue))
	case strings.HasSuffix(e.Queue, bandSuffix(bandHigh)) || strings.HasSuffix(e.Queue, bandSuffix(bandLow)):
		errs = append(errs, fmt.Errorf("%s: queue name %q ends like a band of another queue", which, e.Queue))
	}
	return errs
}

// detectAsynq says whether asynq knows a queue of this name. Price: 15 commands.
func detectAsynq(ctx context.Context, client redis.UniversalClient, queue string) (Endpoint, bool, error) {
	e := Endpoint{Layout: Asynq, Prefix: asynqPrefix, Queue: queue}
	if len(e.validateAsynq("")) > 0 {
		return e, false, nil
	}
	var replies []*redis.IntCmd
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, part := range e.parts() {
			for _, c := range containersOf(Asynq) {
				replies = append(replies, p.Exists(ctx, part.Key(c.from)))
			}
		}
		return nil
	})
	if err != nil {
		return e, false, fmt.Errorf("look for %s: %w", e, err)
	}
	for _, r := range replies {
		if r.Val() > 0 {
			return e, true, nil
		}
	}
	known, err := client.SIsMember(ctx, "asynq:queues", queue).Result()
	if err != nil {
		return e, false, fmt.Errorf("read \"asynq:queues\": %w", ignoreReplies(err))
	}
	return e, known, nil
}

// asynqID is what a job is called at asynq. It tells running jobs apart by their id alone, over all
// queues of a process, so the numbers that every queue of Bull gives out are told apart by its name.
func asynqID(queue, id string) string {
	if _, ok := digits(id); ok {
		return queue + ":" + id
	}
	return id
}

// dueSecond is the first whole second that is not before the time in a score of Bull's delayed set.
func dueSecond(score string) (int64, bool) {
	f, err := strconv.ParseFloat(score, 64)
	if err != nil || f < 0 || f > 1<<62 {
		return 0, false
	}
	ms := int64(f) / 4096
	return (ms + 999) / 1000, true
}

// oldestAsynq is the age of the job that waits longest, in milliseconds; -1 if none does. Price: 3
// commands, and one for each band with a job.
func oldestAsynq(ctx context.Context, client redis.UniversalClient, e Endpoint) (int64, error) {
	now, err := client.Time(ctx).Result()
	if err != nil {
		return -1, fmt.Errorf("read the server's clock: %w", err)
	}
	age := int64(-1)
	for _, part := range e.parts() {
		id, err := client.LIndex(ctx, part.Key("pending"), -1).Result()
		if err != nil {
			if err := ignoreReplies(err); err != nil {
				return -1, fmt.Errorf("read %q: %w", part.Key("pending"), err)
			}
			continue
		}
		since, err := client.HGet(ctx, part.jobKey(id), fieldPendingSince.String()).Result()
		if err = ignoreReplies(err); err != nil {
			return -1, fmt.Errorf("read %q: %w", part.jobKey(id), err)
		}
		if ms := pendingMS(since); ms > 0 {
			age = max(age, now.UnixMilli()-ms, 0)
		}
	}
	return age, nil
}
