package config

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// QueueMode is who runs the jobs of a queue.
type QueueMode string

// The modes. A queue without one is not ours.
const (
	PushMode  QueueMode = "push"
	LeaseMode QueueMode = "lease"
	ExecMode  QueueMode = "exec"
	AddMode   QueueMode = "add"
)

// Push says how jobs are sent.
type Push struct {
	// Secret signs the requests, so that the application can tell that they are ours; at least 16 bytes.
	// Required where a queue has mode push.
	Secret Secret `yaml:"secret" env:"REDISOPT_PUSH_SECRET"`

	// FormerSecret signs them too while the secret is changed. Default none.
	FormerSecret Secret `yaml:"former_secret" env:"REDISOPT_PUSH_FORMER_SECRET"`

	// MaxConnections bounds the connections to all endpoints together. Default 64.
	MaxConnections int `yaml:"max_connections" jsonschema:"minimum=1,maximum=10000"`
}

// Exec says what a command may use. Limits hold on Linux and, memory apart, on macOS; 0 means none.
type Exec struct {
	// Dir is the directory it runs in. Default a new one for each job, which is removed when it has ended.
	Dir string `yaml:"dir"`

	// Env are the names of variables of this process that it sees. Default PATH alone.
	Env []string `yaml:"env"`

	// CPUSeconds is how much processor time it may use. Default 0.
	CPUSeconds int `yaml:"cpu_seconds" jsonschema:"minimum=0"`

	// MemoryBytes is how much memory it may have mapped. Default 0.
	MemoryBytes int `yaml:"memory_bytes" jsonschema:"minimum=0"`

	// OpenFiles is how many files it may have open. Default 0.
	OpenFiles int `yaml:"open_files" jsonschema:"minimum=0"`

	// FileBytes is how large a file it writes may be. Default 0.
	FileBytes int `yaml:"file_bytes" jsonschema:"minimum=0"`
}

// Rate limits how many jobs begin.
type Rate struct {
	// Jobs may begin within per, in each process. Default 0: no limit.
	Jobs int `yaml:"jobs" jsonschema:"minimum=0"`

	// Per is the length of the window. Default 0s: 1s.
	Per time.Duration `yaml:"per" min:"0s" max:"24h"`

	// Burst is how many may begin at once after a quiet time. Default 0: jobs.
	Burst int `yaml:"burst" jsonschema:"minimum=0"`
}

// Backoff is the pause before another attempt.
type Backoff struct {
	// Kind is how it grows: exponential doubles it each time, fixed leaves it. Default exponential.
	Kind BackoffKind `yaml:"kind" jsonschema:"enum=exponential,enum=fixed"`

	// Delay is the pause before the second attempt. Default 0s: queues.defaults.backoff.
	Delay time.Duration `yaml:"delay" min:"0s" max:"720h"`

	// Max is the longest pause. Default 0s: 1h.
	Max time.Duration `yaml:"max" min:"0s" max:"720h"`

	// Jitter is the largest share by which a pause is lengthened at random. Default 0.
	Jitter float64 `yaml:"jitter" jsonschema:"minimum=0,maximum=1"`
}

// BackoffKind is how a pause grows.
type BackoffKind string

// The kinds.
const (
	ExponentialBackoff BackoffKind = "exponential"
	FixedBackoff       BackoffKind = "fixed"
)

// Keep says what stays of jobs that have ended.
type Keep struct {
	// Age is how long they stay. Default 0s: as the queue's completed and failed say.
	Age time.Duration `yaml:"age" min:"0s" max:"8784h"`

	// Count is how many stay at most. Default 0: as the queue's completed and failed say.
	Count int `yaml:"count" jsonschema:"minimum=0,maximum=10000000"`
}

// Batch is how items are put together.
type Batch struct {
	// Wait is how long the first item waits for others. Default 0s: 10s.
	Wait time.Duration `yaml:"wait" min:"0s" max:"24h"`

	// Size is how many items go at once without waiting longer. Default 0: 100.
	Size int `yaml:"size" jsonschema:"minimum=0,maximum=1000"`
}

// A Schedule is a job that is added again and again.
type Schedule struct {
	// Name identifies it in the fleet: letters, digits and _ . : / @ -. Required.
	Name string `yaml:"name" jsonschema:"minLength=1,maxLength=128"`

	// Queue is the queue of the list that its jobs go to. Required.
	Queue string `yaml:"queue" jsonschema:"minLength=1"`

	// Cron is when: minute, hour, day of the month, month, day of the week; or a name such as @daily.
	// Either this or every is required. Default none.
	Cron string `yaml:"cron"`

	// Every is a period in whole seconds, counted from the Unix epoch. Default none.
	Every time.Duration `yaml:"every" min:"0s" max:"8784h"`

	// TimeZone is where the hours of cron are meant, such as Europe/Berlin. Default UTC.
	TimeZone string `yaml:"time_zone"`

	// Misfire is what is made up for after nobody was there to add a job: once adds the latest that was
	// missed, skip none, all up to misfire_max. Default once.
	Misfire Misfire `yaml:"misfire" jsonschema:"enum=once,enum=skip,enum=all"`

	// MisfireMax is the most that misfire all makes up for. Default 0: 10.
	MisfireMax int `yaml:"misfire_max" jsonschema:"minimum=0,maximum=1000"`

	// Jitter delays each job by something between nothing and it, the same on every replica. Default 0s.
	Jitter time.Duration `yaml:"jitter" min:"0s" max:"1h"`

	// JobName is what kind of job it is. Default the name of the queue.
	JobName string `yaml:"job_name" jsonschema:"maxLength=200"`

	// Payload is the job's payload, JSON in quotes. Default none.
	Payload string `yaml:"payload"`
}

// Misfire is what is made up for.
type Misfire string

// What can be made up for.
const (
	MisfireOnce Misfire = "once"
	MisfireSkip Misfire = "skip"
	MisfireAll  Misfire = "all"
)

// Served are the queues that this program keeps: those with a mode.
func (q Queues) Served() []Queue {
	var all []Queue
	for _, queue := range q.List {
		if queue.Mode != "" {
			all = append(all, queue)
		}
	}
	return all
}

// jobs reports what is wrong with how the jobs of one queue are run.
func (k *checker) jobs(key string, q Queue) {
	switch q.Mode {
	case PushMode:
		if q.Endpoint == "" {
			k.bad(key+".endpoint", "missing; mode push sends jobs there")
		}
	case ExecMode:
		if len(q.Command) == 0 {
			k.bad(key+".command", "missing; mode exec runs it for each job")
		}
	case LeaseMode, AddMode, "":
	}
	if q.Endpoint != "" {
		if u, err := url.Parse(q.Endpoint.Reveal()); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Fragment != "" {
			k.bad(key+".endpoint", "want http:// or https:// with a host, without user and fragment")
		}
		if q.Mode != PushMode {
			k.bad(key+".endpoint", "only mode push sends jobs; this queue has mode %s", orNone(string(q.Mode)))
		}
	}
	if len(q.Command) > 0 && q.Mode != ExecMode {
		k.bad(key+".command", "only mode exec runs one; this queue has mode %s", orNone(string(q.Mode)))
	}
	for i, arg := range q.Command {
		if arg == "" && i == 0 || strings.ContainsRune(arg, 0) {
			k.bad(fmt.Sprintf("%s.command[%d]", key, i), "no such program or argument can be")
		}
	}
	if q.Mode != "" && (strings.ContainsAny(q.Name, "{}") || strings.HasSuffix(q.Name, ":high") || strings.HasSuffix(q.Name, ":low") || len(q.Name) > 200) {
		k.bad(key+".name", "got %s, want at most 200 bytes without braces that do not end in :high or :low, which are the bands of another queue", quote(q.Name))
	}
	if b := q.Backoff; b.Max > 0 && b.Max < b.Delay {
		k.bad(key+".backoff.max", "%s is less than delay (%s)", durationText(b.Max), durationText(b.Delay))
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// push reports what is missing to send jobs.
func (k *checker) push() {
	p := k.config.Queues.Push
	for key, secret := range map[string]Secret{"queues.push.secret": p.Secret, "queues.push.former_secret": p.FormerSecret} {
		if secret != "" && len(secret) < minTokenBytes {
			k.bad(key, "is shorter than %d bytes, which can be guessed; make one with: openssl rand -hex 32", minTokenBytes)
		}
	}
	if p.Secret != "" {
		return
	}
	for i, q := range k.config.Queues.List {
		if q.Mode == PushMode {
			k.bad("queues.push.secret", "missing; queues.list[%d] sends jobs, and the application must know that they are ours: set REDISOPT_PUSH_SECRET or REDISOPT_PUSH_SECRET_FILE", i)
			return
		}
	}
}

// schedules reports what is wrong with the schedules, as far as it shows without reading them as cron
// does; names are the queues by their place.
func (k *checker) schedules(names map[string]int) {
	seen := map[string]int{}
	for i, s := range k.config.Queues.Schedules {
		key := fmt.Sprintf("queues.schedules[%d]", i)
		switch first, twice := seen[s.Name]; {
		case s.Name == "":
			k.bad(key+".name", "missing")
		case twice:
			k.bad(key+".name", "%s is also the name of queues.schedules[%d]", quote(s.Name), first)
		default:
			seen[s.Name] = i
		}
		at, ok := names[s.Queue]
		switch {
		case s.Queue == "":
			k.bad(key+".queue", "missing")
		case !ok:
			k.bad(key+".queue", "no queue is named %s", printable(s.Queue))
		case k.config.Queues.List[at].Mode == "":
			k.bad(key+".queue", "queues.list[%d] has no mode, so no jobs can be added to it", at)
		}
		if (s.Cron == "") == (s.Every == 0) {
			k.bad(key+".cron", "want cron or every, one of them")
		}
		if s.TimeZone != "" {
			if _, err := time.LoadLocation(s.TimeZone); err != nil {
				k.bad(key+".time_zone", "got %s, want a name such as Europe/Berlin", quote(s.TimeZone))
			}
		}
		if s.Payload != "" && !json.Valid([]byte(s.Payload)) {
			k.bad(key+".payload", "is no JSON")
		}
	}
}
