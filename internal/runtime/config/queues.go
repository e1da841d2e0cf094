package config

import (
	"cmp"
	"slices"
	"time"
)

// Queues configures the job queues.
type Queues struct {
	// Prefix is the key prefix of the queues in the upstream. Default bull, as Bull and BullMQ have
	// it.
	Prefix string `yaml:"prefix" jsonschema:"minLength=1"`

	// Defaults are what holds for each queue that does not say otherwise.
	Defaults QueueDefaults `yaml:"defaults"`

	// List is the queues. Default none.
	List []Queue `yaml:"list"`

	// Concurrency is how many jobs of all queues one process runs at the same time. Default 0: the sum of
	// what the queues allow.
	Concurrency int `yaml:"concurrency" jsonschema:"minimum=0,maximum=100000"`

	// Sweep is how often all queues are looked at for work that nobody announced, for 1 command each time,
	// by one replica for all. A crashed worker's job waits up to it longer. Default 5m45s, which is 7,514
	// commands in a 30-day month.
	Sweep time.Duration `yaml:"sweep" min:"10s" max:"1h"`

	// Presence is how often asynq's own tools are told that this process works. It costs about 5 commands
	// each time. Default 0s: never.
	Presence time.Duration `yaml:"presence" min:"0s" max:"24h"`

	// Watchdog is how long commands may go unanswered before the connections are made anew; after as long
	// again serve ends with an error, so that whoever supervises it starts it again. Default 2m.
	Watchdog time.Duration `yaml:"watchdog" min:"1s" max:"1h"`

	// Push is how jobs are sent to the application.
	Push Push `yaml:"push"`

	// Schedules are jobs that are added again and again, once for all replicas. Default none.
	Schedules []Schedule `yaml:"schedules"`
}

// QueueDefaults hold for every queue.
type QueueDefaults struct {
	// Attempts is how often a job is tried in all. Default 3.
	Attempts int `yaml:"attempts" jsonschema:"minimum=1,maximum=1000"`

	// Backoff is the pause before the second attempt; it doubles with each further one. Default 1s.
	Backoff time.Duration `yaml:"backoff" min:"0s"`

	// BacklogLimit is how many jobs a paused queue takes before its producers are told. Default
	// 10000; 0 means no limit.
	BacklogLimit int `yaml:"backlog_limit" jsonschema:"minimum=0"`

	// CatchUp is what happens to the backlog when a queue is resumed: staged runs it slowly, so that
	// not everything fires at once, all runs it at full speed, newest keeps only the newest job of
	// each schedule. Default staged.
	CatchUp CatchUp `yaml:"catch_up" jsonschema:"enum=staged,enum=all,enum=newest"`

	// FailureWarnAt is the share of failed jobs from which a warning is given. Default 0.05.
	FailureWarnAt float64 `yaml:"failure_warn_at" jsonschema:"minimum=0,maximum=1"`

	// FailureCriticalAt is the share of failed jobs that is critical. Default 0.1.
	FailureCriticalAt float64 `yaml:"failure_critical_at" jsonschema:"minimum=0,maximum=1"`

	// FailureMinJobs is how many jobs must have ended before their share of failures is judged.
	// Default 20.
	FailureMinJobs int `yaml:"failure_min_jobs" jsonschema:"minimum=1"`
}

// CatchUp is what happens to a backlog.
type CatchUp string

// What happens to a backlog when its queue is resumed.
const (
	Staged CatchUp = "staged" // slowly
	All    CatchUp = "all"    // at full speed
	Newest CatchUp = "newest" // only the newest job of each schedule
)

// A Queue is one job queue.
type Queue struct {
	// Name is the queue's name. Required.
	Name string `yaml:"name" jsonschema:"minLength=1"`

	// Criticality is critical when users notice within minutes that the queue stands still. Default
	// normal.
	Criticality Criticality `yaml:"criticality" jsonschema:"enum=normal,enum=critical"`

	// DependsOn are the queues without which this one stops being right after a while. Default none.
	DependsOn []string `yaml:"depends_on"`

	// MaxPause is how long this queue may be paused before a critical queue that depends on it
	// suffers. Default 0s: unknown, so it is not paused while a critical queue depends on it.
	MaxPause time.Duration `yaml:"max_pause" min:"0s"`

	// MigrationOrder is the queue's place in a migration, safest first, counted from 1. Default 0: no
	// place, after all that have one.
	MigrationOrder int `yaml:"migration_order" jsonschema:"minimum=0"`

	// Note is anything a person should know. Default none.
	Note string `yaml:"note"`

	// Mode is who runs the jobs: push sends them to endpoint, lease waits for the application to fetch
	// them, exec runs command, add takes jobs for other replicas to run. Default none: the queue is not
	// ours, it is only known.
	Mode QueueMode `yaml:"mode" jsonschema:"enum=push,enum=lease,enum=exec,enum=add"`

	// Endpoint is where push sends jobs: http:// or https://. Required with push.
	Endpoint URL `yaml:"endpoint"`

	// Command is the program that exec runs for each job, with its arguments; the job is on its standard
	// input. Required with exec.
	Command []string `yaml:"command"`

	// Exec is what the command may use.
	Exec Exec `yaml:"exec"`

	// Concurrency is how many jobs one process runs at the same time. Default 0: 1, and 100 with lease,
	// where the applications decide.
	Concurrency int `yaml:"concurrency" jsonschema:"minimum=0,maximum=100000"`

	// Rate limits how many jobs begin.
	Rate Rate `yaml:"rate"`

	// Attempts is queues.defaults.attempts for this queue. Default 0: the same.
	Attempts int `yaml:"attempts" jsonschema:"minimum=0,maximum=1000"`

	// Backoff is the pause between attempts.
	Backoff Backoff `yaml:"backoff"`

	// Final are parts of errors that are not tried again: the job becomes a dead letter at once. Default
	// none.
	Final []string `yaml:"final"`

	// Timeout is how long one attempt may take. Default 0s: 1m with push, otherwise 30m.
	Timeout time.Duration `yaml:"timeout" min:"0s" max:"24h"`

	// Completed is what stays of jobs that are done. Default an hour, at most 1000.
	Completed Keep `yaml:"completed"`

	// Failed is what stays of dead letters. Default 7 days, at most 100000.
	Failed Keep `yaml:"failed"`

	// MaxPayloadBytes is the largest payload. Default 0: 262144 (256 KiB).
	MaxPayloadBytes int `yaml:"max_payload_bytes" jsonschema:"minimum=0,maximum=104857600"`

	// SchemaFile is a file with the JSON Schema that every payload must match when it is added. Default
	// none.
	SchemaFile string `yaml:"schema_file"`

	// Lease is how long an application may be silent about a job it has fetched. Default 0s: 30s.
	Lease time.Duration `yaml:"lease" min:"0s" max:"24h"`

	// Batch is how items with one batch key are put together.
	Batch Batch `yaml:"batch"`
}

// Criticality is how much a queue matters.
type Criticality string

// The criticalities.
const (
	Normal   Criticality = "normal"
	Critical Criticality = "critical"
)

// ByMigrationOrder is the queues, safest to migrate first; those without a place come last, as
// listed.
func (q Queues) ByMigrationOrder() []Queue {
	all := slices.Clone(q.List)
	slices.SortStableFunc(all, func(a, b Queue) int {
		if (a.MigrationOrder == 0) != (b.MigrationOrder == 0) {
			return cmp.Compare(b.MigrationOrder, a.MigrationOrder)
		}
		return cmp.Compare(a.MigrationOrder, b.MigrationOrder)
	})
	return all
}

// A Pause says whether a queue may be paused.
type Pause struct {
	// Safe is whether it may be paused at all.
	Safe bool

	// Most is how long it may be paused; zero with Safe means for any time.
	Most time.Duration

	// Guards are the critical queues that depend on this one, directly or through others, sorted.
	Guards []string
}

// PauseOf says whether the queue name may be paused. A critical queue may not. One that critical
// queues depend on may be paused for its max_pause, and not at all while that is unknown. A queue
// that is not listed may not be paused either: nothing is known about it.
func (q Queues) PauseOf(name string) Pause {
	i := slices.IndexFunc(q.List, func(x Queue) bool { return x.Name == name })
	if i < 0 {
		return Pause{}
	}
	queue := q.List[i]
	p := Pause{Most: queue.MaxPause}
	for _, other := range q.List {
		if other.Criticality == Critical && other.Name != name && q.reaches(other.Name, name) {
			p.Guards = append(p.Guards, other.Name)
		}
	}
	slices.Sort(p.Guards)
	switch {
	case queue.Criticality == Critical:
		p.Most = 0
	case len(p.Guards) == 0:
		p.Safe = true
	default:
		p.Safe = queue.MaxPause > 0
	}
	return p
}

// reaches is whether from depends on to, directly or through others.
func (q Queues) reaches(from, to string) bool {
	seen := map[string]bool{from: true}
	for next := []string{from}; len(next) > 0; {
		name := next[0]
		next = next[1:]
		for _, queue := range q.List {
			if queue.Name != name {
				continue
			}
			for _, on := range queue.DependsOn {
				if on == to {
					return true
				}
				if !seen[on] {
					seen[on] = true
					next = append(next, on)
				}
			}
		}
	}
	return false
}

// cycle is a circle of dependencies, its first name repeated at its end, or nil.
func (q Queues) cycle() []string {
	on := map[string][]string{}
	for _, queue := range q.List {
		on[queue.Name] = queue.DependsOn
	}
	const (
		open = 1 + iota
		done
	)
	state := map[string]int{}
	var path []string
	var visit func(name string) []string
	visit = func(name string) []string {
		switch state[name] {
		case done:
			return nil
		case open:
			return append(slices.Clone(path[slices.Index(path, name):]), name)
		}
		state[name] = open
		path = append(path, name)
		for _, next := range on[name] {
			if found := visit(next); found != nil {
				return found
			}
		}
		path = path[:len(path)-1]
		state[name] = done
		return nil
	}
	for _, queue := range q.List {
		if found := visit(queue.Name); found != nil {
			return found
		}
	}
	return nil
}
