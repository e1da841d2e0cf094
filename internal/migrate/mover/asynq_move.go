package mover

import (
	"context"
	_ "embed" // the scripts are compiled in
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed enter.lua
	enterLua string
	//go:embed leave.lua
	leaveLua string
	//go:embed open.lua
	openLua string
	//go:embed shut.lua
	shutLua string
)

// leaseGrace is how long after its lease has ended a job of asynq is still its worker's; asynq waits as long.
const leaseGrace = 30 * time.Second

// asynqPart is what asynq calls the container of a state.
func asynqPart(container string) string {
	switch container {
	case "wait", "paused", "prioritized":
		return "pending"
	case "delayed":
		return "scheduled"
	case "failed":
		return "archived"
	}
	return container
}

// enterLanes are the ways to asynq: those of any other move, with dead letters taken newest first, since
// asynq keeps only so many.
func (m *Mover) enterLanes(first bool) []lane {
	all := append(m.waitingLanes(first), scoredLanes(false)...)
	for i := range all {
		if all[i].state == Failed {
			all[i].how = takeHigh
		}
		all[i].to = asynqPart(all[i].from)
	}
	return all
}

// leaveLanes are the ways from asynq, ordered as waitingLanes are: a band that is served first is taken
// first when jobs are put behind others, and last when they are put in front.
func (m *Mover) leaveLanes(first bool) []lane {
	bands := []int{bandHigh, bandNormal, bandLow}
	how, put := takeRight, putLeft
	switch {
	case m.opts.Reverse && first && m.inOrder:
		put = putFront
	case m.opts.Reverse && first:
		how, put = takeLeft, putRight
		slices.Reverse(bands)
	}
	var all []lane
	for _, band := range bands {
		all = append(all, lane{Waiting, "pending", "wait", how, put, false, band})
	}
	for _, band := range bands {
		all = append(all,
			lane{Delayed, "scheduled", "delayed", takeLow, putScored, false, band},
			lane{Delayed, "retry", "delayed", takeLow, putScored, false, band},
			lane{Completed, "completed", "completed", takeLow, putScored, false, band},
			lane{Failed, "archived", "failed", takeLow, putScored, false, band})
	}
	return all
}

// source is the endpoint whose container l.from is.
func (m *Mover) source(l lane) Endpoint { return m.opts.From.part(l.band) }

// asynqPaused says whether somebody paused the source; a pause that is only ours does not count.
func (m *Mover) asynqPaused(ctx context.Context) (bool, error) {
	paused, err := isPaused(ctx, m.client, m.opts.From)
	if err != nil || !paused {
		return false, err
	}
	held, err := m.client.HGet(ctx, m.ledgerKey("counts"), "held").Result()
	if err = ignoreReplies(err); err != nil {
		return false, fmt.Errorf("read ledger: %w", err)
	}
	return held != "1", nil
}

func pauseFlags(e Endpoint) []string {
	var keys []string
	for _, part := range e.parts() {
		keys = append(keys, part.Key("paused"))
	}
	return keys
}

// open makes the bands of the target ready; see open.lua.
func (m *Mover) open(ctx context.Context, paused bool) error {
	to := m.opts.To
	keys := append(pauseFlags(to), "asynq:queues", m.ledgerKey("counts"), m.fenceKey())
	args := []any{m.opts.Fence.Token}
	for _, part := range to.parts() {
		args = append(args, part.Queue)
	}
	args = append(args, flag(paused), flag(!m.opts.Straggling), strconv.FormatInt(time.Now().Unix(), 10), flag(m.opts.Reverse))
	if _, err := m.run(ctx, m.scripts.open, keys, args...); err != nil {
		return fmt.Errorf("prepare %s: %w", to, err)
	}
	return nil
}

// letGo ends the pause of asynq that a move makes. way is noted as finished when it is not empty.
func (m *Mover) letGo(ctx context.Context, e Endpoint, way string) error {
	keys := append(pauseFlags(e), m.ledgerKey("counts"), m.fenceKey())
	if _, err := m.run(ctx, m.scripts.shut, keys, m.opts.Fence.Token, way); err != nil {
		return fmt.Errorf("finish %s: %w", e, err)
	}
	return nil
}

func (m *Mover) enterKeys(l lane) []string {
	from, to := m.opts.From, m.opts.To
	pause := "meta-paused"
	if from.Layout == BullMQ {
		pause = "meta"
	}
	keys := []string{from.Key(l.from)}
	for _, part := range to.parts() {
		keys = append(keys, part.Key(l.to))
	}
	return append(keys, from.Key("priority"), from.Key("repeat"), from.Key(pause), to.Key("paused"),
		m.ledgerKey("counts"), m.fenceKey())
}

func (m *Mover) enterArgs(c *chunk) []any {
	from, to := m.opts.From, m.opts.To
	fields := m.opts.fields(m.inPlace())
	args := []any{m.opts.Fence.Token, from.Key("")}
	for _, part := range to.parts() {
		args = append(args, part.jobKey(""))
	}
	args = append(args, m.counter(c.lane.state), string(c.lane.how), string(c.lane.put),
		strconv.Itoa(c.skip), strconv.Itoa(c.want), c.lane.to, string(from.Layout)+" "+string(c.lane.state)+" ",
		strconv.Itoa(from.major()), to.Queue+":", lockKey(to.Queue, ""), strconv.Itoa(len(c.shapes)), strconv.Itoa(len(fields)))
	for _, form := range c.shapes {
		for _, s := range form {
			args = append(args, s)
		}
	}
	for _, f := range fields {
		args = append(args, f.String())
	}
	args = append(args, strconv.Itoa(len(c.claims)))
	for i := range c.claims {
		k := &c.claims[i]
		args = append(args, k.id, k.newID, string(k.action), k.score, strconv.Itoa(k.band), k.targetScore, k.dedupID,
			k.scheduler, k.seen, k.head, k.tail, strconv.Itoa(k.losses))
	}
	return args
}

func (m *Mover) leaveKeys(l lane) []string {
	from, to := m.source(l), m.opts.To
	pause, index := "meta", "prioritized"
	if to.Layout == Bull {
		pause, index = "meta-paused", "priority"
	}
	return []string{
		from.Key(l.from), to.Key(l.to), to.Key("paused"), to.Key(pause), to.Key("marker"), to.Key(index), to.Key("pc"),
		to.Key("id"), to.Key("delayed"), from.Key("lease"), m.ledgerKey("counts"), m.fenceKey(), m.opts.From.Key("paused"),
	}
}

func (m *Mover) leaveArgs(c *chunk) []any {
	to := m.opts.To
	fields := m.opts.fields(false)
	idMin := ""
	if c.idMin > 0 {
		idMin = strconv.FormatInt(c.idMin, 10)
	}
	lease := ""
	if c.lane.state == Active {
		lease = strconv.FormatInt(m.freeLease(), 10)
	}
	args := []any{
		m.opts.Fence.Token, m.source(c.lane).jobKey(""), to.Key(""), m.counter(c.lane.state), string(c.lane.how),
		string(c.lane.put), strconv.Itoa(to.major()), strconv.Itoa(c.skip), strconv.Itoa(c.want), idMin,
		flag(m.opts.Reverse), lease, strconv.Itoa(len(fields)),
	}
	for _, f := range fields {
		args = append(args, f.String())
	}
	args = append(args, strconv.Itoa(len(c.claims)))
	for i := range c.claims {
		k := &c.claims[i]
		args = append(args, k.id, k.newID, string(k.action), k.score, k.targetScore, k.priority, k.dedupID, k.lock, k.seen,
			flag(!k.noData), strconv.Itoa(len(k.hset)), strconv.Itoa(len(k.hdel)), strconv.Itoa(k.losses))
		for _, s := range k.hset {
			args = append(args, s)
		}
		for _, s := range k.hdel {
			args = append(args, s)
		}
	}
	return args
}

// freeLease is what the end of a lease may be at most, in Unix seconds, for its job to be nobody's. With
// the operator's word that no worker runs it is any.
func (m *Mover) freeLease() int64 {
	if m.opts.WorkersStopped {
		return 1 << 40
	}
	return time.Now().Add(-leaseGrace).Unix()
}

// decideEnter says what shall become of a job on its way to asynq.
func (m *Mover) decideEnter(l lane, e entry) (claim, *Problem, []Loss) {
	k := claim{id: e.id, newID: e.id, action: statusHeld, score: e.score, seen: e.seen}
	from, to := m.opts.From, m.opts.To
	held := func(p *Problem) (claim, *Problem, []Loss) {
		p.JobID = e.id
		p.Message += fmt.Sprintf(" (%s, in %s)", from.Key(e.id), from.Key(l.from))
		return k, p, nil
	}
	v, problem := parseSeen(e.seen, m.opts.fields(false))
	if problem != nil {
		if problem.Rule == "missing-hash" && from.Layout == BullMQ && strings.HasPrefix(e.id, "0:") {
			problem.Rule, problem.Message = "marker-like-id", "a marker that an old BullMQ left, not a job"
		}
		return held(problem)
	}
	j, problem := read(from.Layout, e.id, l.state, e.score, v)
	if problem != nil {
		return held(problem)
	}
	if v.has[fieldParentKey] && !j.finished() && !m.opts.LeaveFlows {
		return k, &Problem{JobID: e.id, Rule: "flow", Message: fmt.Sprintf(
			"%s is a child in a flow and %s waits for it: asynq has no flows, let it finish first",
			from.Key(e.id), v.val[fieldParentKey])}, nil
	}
	k.newID = asynqID(to.Queue, e.id)
	p, losses, problem := writeAsynq(j, from.Layout, to.Queue, k.newID, time.Now())
	if problem != nil {
		return held(problem)
	}
	k.action, k.losses = statusMoved, len(losses)
	k.head, k.tail, k.band, k.targetScore = p.msg.head(), p.msg.tail(), p.band, p.score
	if !j.finished() {
		k.dedupID, k.scheduler = j.DedupID, j.SchedulerKey
	}
	return k, nil, losses
}

// decideLeave says what shall become of a job on its way from asynq.
func (m *Mover) decideLeave(l lane, e entry) (claim, *Problem, []Loss) {
	k := claim{id: e.id, newID: e.id, action: statusHeld, score: e.score, seen: e.seen}
	from, to := m.source(l), m.opts.To
	held := func(p *Problem) (claim, *Problem, []Loss) {
		p.JobID = e.id
		p.Message += fmt.Sprintf(" (%s, in %s)", from.jobKey(e.id), from.Key(l.from))
		return k, p, nil
	}
	v, problem := parseSeen(e.seen, m.opts.fields(false))
	if problem != nil {
		return held(problem)
	}
	o, problem := readAsynq(e.id, l.state, l.band, e.score, v, m.opts.From.Queue)
	if problem != nil {
		return held(problem)
	}
	j, c, score, priority, problem := o.leave(to.Layout, e.id, l.state, l.band, e.score)
	if problem != nil {
		return held(problem)
	}
	c.hset, c.hdel = difference(&v, &c.after)
	k.action, k.newID, k.losses, k.hset, k.hdel = statusMoved, c.newID, len(c.losses), c.hset, c.hdel
	k.noData = o.noData
	k.lock = v.val[fieldUniqueKey]
	if k.lock == "" {
		k.lock = o.task.uniqueKey
	}
	if !j.finished() {
		k.dedupID = c.after.val[fieldDeid]
	}
	if !l.isList() {
		k.targetScore = score
		return k, nil, c.losses
	}
	prioritized := isPriority(priority) && strings.Trim(priority, "0.") != ""
	switch {
	case to.Layout == Bull && prioritized:
		k.priority = priority
	case to.Layout == BullMQ && l.band == bandLow && prioritized:
		k.action, k.priority = statusPriority, priority
		if !o.touched && o.state == Prioritized {
			k.targetScore = score
		}
	}
	return k, nil, c.losses
}

// asynqSeen shows a hash that was read without a script as the script does.
func asynqSeen(values []any) string {
	last := len(values) - 1
	if raw, ok := values[last].(string); ok {
		values[last] = escape(withoutPayload(raw))
	}
	_, seen := joinSeen(values)
	return seen
}

// activeAsynq lists the active jobs of all bands of the source, at most 1,000 of each.
func (m *Mover) activeAsynq(ctx context.Context) ([]string, error) {
	var replies []*redis.StringSliceCmd
	_, err := m.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, part := range m.opts.From.parts() {
			replies = append(replies, p.LRange(ctx, part.Key("active"), 0, maxKept-1))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read active jobs of %s: %w", m.opts.From, err)
	}
	var ids []string
	for _, r := range replies {
		ids = append(ids, r.Val()...)
	}
	return ids, nil
}
