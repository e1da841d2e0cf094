package mover

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"
)

// A digester makes a Snapshot of one endpoint.
type digester struct {
	*Mover
	at     Endpoint
	source bool
	out    Snapshot
	seen   int64
	skip   map[string]bool // jobs of schedulers, which get other names
}

func (m *Mover) snapshot(ctx context.Context, at Endpoint, source bool) (Snapshot, error) {
	d := &digester{Mover: m, at: at, source: source, out: Snapshot{
		Digests: map[State]Digest{}, Samples: []Sample{}, NextRuns: map[string]int64{},
	}}
	if err := d.schedulers(ctx); err != nil {
		return d.out, fmt.Errorf("digest of %s: %w", at, err)
	}
	for _, part := range d.inRunOrder() {
		if err := d.container(ctx, part.part, part.lane); err != nil {
			return d.out, fmt.Errorf("digest of %s: %w", at, err)
		}
	}
	for state, x := range d.out.Digests {
		x.Sum = strconv.FormatUint(x.sum, 16)
		if state == Waiting {
			x.Order = strconv.FormatUint(x.order, 16)
		}
		d.out.Digests[state] = x
	}
	slices.SortFunc(d.out.Samples, func(a, b Sample) int { return strings.Compare(a.ID, b.ID) })
	return d.out, nil
}

type partLane struct {
	part Endpoint
	lane lane
}

// inRunOrder are the containers of the endpoint; of those that wait what runs first comes first.
func (d *digester) inRunOrder() []partLane {
	var all []partLane
	for _, part := range d.at.parts() {
		for _, l := range containersOf(d.at.Layout) {
			if l.state == WaitingChildren {
				continue
			}
			if l.isList() {
				l.how = takeRight
			}
			all = append(all, partLane{part, l})
		}
	}
	first := func(p partLane) int {
		return slices.Index([]string{"active", "paused", "wait", "pending"}, p.lane.from) + 1
	}
	slices.SortStableFunc(all, func(a, b partLane) int { return first(a) - first(b) })
	return all
}

// digestFields are read of each job; the payload, or the message with it, is the last.
func digestFields(layout Layout) []string {
	if layout == Asynq {
		return []string{"msg"}
	}
	fields := []string{}
	for _, f := range fieldsOf(layout, false) {
		fields = append(fields, f.String())
	}
	return append(fields, "name", "data")
}

func (d *digester) container(ctx context.Context, part Endpoint, l lane) error {
	names := digestFields(part.Layout)
	for at := int64(0); ; at += digestPage {
		page, err := idsOf(ctx, d.client, part.Key(l.from), l, at)
		if err != nil || len(page) == 0 {
			return err
		}
		replies := make([]*redis.SliceCmd, len(page))
		_, err = d.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, e := range page {
				replies[i] = p.HMGet(ctx, part.jobKey(e.id), names...)
			}
			return nil
		})
		var refused redis.Error
		if err != nil && !errors.As(err, &refused) {
			return fmt.Errorf("read jobs of %q: %w", part.Key(l.from), err)
		}
		for i, e := range page {
			if s, plain, ok := d.sample(part, l, e, replies[i]); ok {
				d.add(s, plain)
			}
		}
	}
}

// idsOf reads a page of a container, of lists from the end that runs first.
func idsOf(ctx context.Context, client redis.UniversalClient, key string, l lane, at int64) ([]entry, error) {
	var page []entry
	if l.isList() {
		ids, err := client.LRange(ctx, key, -(at + digestPage), -(at + 1)).Result()
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", key, err)
		}
		for _, id := range slices.Backward(ids) {
			page = append(page, entry{id: id})
		}
		return page, nil
	}
	members, err := client.ZRangeWithScores(ctx, key, at, at+digestPage-1).Result()
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", key, err)
	}
	for _, z := range members {
		page = append(page, entry{id: fmt.Sprint(z.Member), score: strconv.FormatFloat(z.Score, 'f', -1, 64)})
	}
	return page, nil
}

// sample reads one job. plain says that it has no priority. What cannot be read is left out: it is moved by
// nobody.
func (d *digester) sample(part Endpoint, l lane, e entry, reply *redis.SliceCmd) (s Sample, plain, ok bool) {
	values := reply.Val()
	if reply.Err() != nil || len(values) == 0 || d.skip[e.id] {
		return s, false, false
	}
	last, _ := values[len(values)-1].(string)
	s = Sample{ID: e.id, State: stateClass(l.state)}
	if part.Layout == Asynq {
		t, err := parseTask(withoutPayload(last))
		if err != nil {
			return s, false, false
		}
		env, problem := t.unseal()
		if problem != nil || strings.HasPrefix(e.id, "cron:") {
			return s, false, false
		}
		s.Name, s.Payload, s.AddedMS = t.kind, hash(payloadOf(last)), strconv.FormatInt(env.At, 10)
		s.Tried, s.Attempts = t.retried, t.retry+1
		if s.State == Failed {
			s.Tried++
		}
		if s.State == Delayed {
			s.DueS = secondsMS(e.score) / 1000
		}
		if d.source {
			s.ID = targetID(d.opts.To.Layout, s.ID)
		}
		return s, !strings.HasSuffix(part.Queue, bandSuffix(bandHigh)) && !strings.HasSuffix(part.Queue, bandSuffix(bandLow)), true
	}
	_, seen := joinSeen(values[:len(values)-2])
	v, problem := parseSeen(seen, fieldsOf(part.Layout, false))
	if problem != nil {
		return s, false, false
	}
	j, problem := read(part.Layout, e.id, l.state, e.score, v)
	if problem != nil || j.SchedulerKey != "" && !j.finished() {
		return s, false, false
	}
	s.Name, _ = values[len(values)-2].(string)
	s.Payload, s.AddedMS, s.Tried = hash(last), j.Timestamp, j.Tried
	if s.Attempts, _ = j.opts.integer("attempts"); s.Attempts < 1 {
		s.Attempts = 1
	}
	if s.State == Failed {
		s.Tried = max(1, s.Tried)
	}
	if s.State == Delayed {
		s.DueS, _ = dueSecond(e.score)
	}
	if d.source {
		s.ID = d.nameAtTarget(e.id)
	}
	return s, !j.prioritized(), true
}

func (d *digester) nameAtTarget(id string) string {
	if d.opts.To.Layout == Asynq {
		return asynqID(d.opts.To.Queue, id)
	}
	return targetID(d.opts.To.Layout, id)
}

// stateClass is a state as both sides of a move know it.
func stateClass(s State) State {
	switch s {
	case Paused, Prioritized, Active:
		return Waiting
	case Waiting, Delayed, Completed, Failed, WaitingChildren:
	}
	return s
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return fmt.Sprintf("%x", sum[:16])
}

// payloadOf is the payload of a message.
func payloadOf(raw string) string {
	payload := ""
	err := eachField([]byte(raw), func(number protowire.Number, text []byte, _ uint64) error {
		if number == 2 {
			payload = string(text)
		}
		return nil
	})
	if err != nil {
		return ""
	}
	return payload
}

// add counts one job, and keeps it as a sample with the chance that every job has.
func (d *digester) add(s Sample, plain bool) {
	text := sha256.Sum256(fmt.Appendf(nil, "%q %q %s %s %d %d %d", s.ID, s.Name, s.Payload, s.AddedMS, s.DueS, s.Tried, s.Attempts))
	x := d.out.Digests[s.State]
	x.Count++
	x.sum += binary.BigEndian.Uint64(text[:8])
	if s.State == Waiting && plain {
		id := sha256.Sum256([]byte(s.ID))
		x.order = x.order*1099511628211 + binary.BigEndian.Uint64(id[:8])
	}
	d.out.Digests[s.State] = x
	d.seen++
	if len(d.out.Samples) < sampleCount {
		d.out.Samples = append(d.out.Samples, s)
	} else if at := rand.Int64N(d.seen); at < sampleCount { //nolint:gosec // any choice will do
		d.out.Samples[at] = s
	}
}

// schedulers notes the next runs.
func (d *digester) schedulers(ctx context.Context) error {
	if d.source {
		p := &planner{Mover: d.Mover, pending: map[string]bool{}}
		if err := p.schedulers(ctx); err != nil {
			return err
		}
		for _, r := range p.plan.Repeats {
			d.out.NextRuns[r.TargetKey] = r.NextMS
		}
		d.skip = p.pending
		return nil
	}
	if d.at.Layout == Asynq {
		return d.ticks(ctx)
	}
	for at := int64(0); ; at += repeatPage {
		page, err := d.client.ZRangeWithScores(ctx, d.at.Key("repeat"), at, at+repeatPage-1).Result()
		if err != nil {
			return fmt.Errorf("read %q: %w", d.at.Key("repeat"), err)
		}
		if len(page) == 0 {
			return nil
		}
		for _, z := range page {
			d.out.NextRuns[fmt.Sprint(z.Member)] = int64(z.Score)
		}
	}
}

// ticks notes the next runs of redisopt's own schedules, where there is a timetable.
func (d *digester) ticks(ctx context.Context) error {
	mine, err := cronFields(ctx, d.client, d.at)
	if err != nil {
		return err
	}
	for _, part := range d.at.parts() {
		members, err := d.client.ZRangeWithScores(ctx, part.Key("scheduled"), 0, maxKept-1).Result()
		if err != nil {
			return fmt.Errorf("read %q: %w", part.Key("scheduled"), err)
		}
		for _, z := range members {
			id := fmt.Sprint(z.Member)
			name := scheduleOf(&Job{ID: id})
			if _, ok := mine[name]; ok {
				d.out.NextRuns[name] = int64(z.Score) * 1000
			}
		}
	}
	return nil
}
