package sidecar

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/queue/child"
	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/queue/push"
)

// What the governor does in a fleet that is to cost next to nothing: a replica that does not sweep for all
// looks every half hour, and the times of delayed jobs are read again twice a day.
const (
	queueFollow = 30 * time.Minute
	queueResync = 12 * time.Hour
)

// maxSchemaBytes bounds the schema of a payload.
const maxSchemaBytes = 1 << 20

// Queues are the queues that the configuration serves, without who runs their jobs. It reads the files with
// their schemas. The error has every problem, each with its key.
func Queues(conf *config.Config) ([]queue.Queue, error) {
	var all []queue.Queue
	var problems []error
	for i, q := range conf.Queues.List {
		if q.Mode == "" {
			continue
		}
		def := definition(conf, q)
		if q.SchemaFile != "" {
			text, err := readSchema(q.SchemaFile)
			if err != nil {
				problems = append(problems, &config.Problem{Key: fmt.Sprintf("queues.list[%d].schema_file", i), Message: err.Error()})
			}
			def.Schema = text
		}
		all = append(all, def)
	}
	return all, errors.Join(problems...)
}

// definition is one queue as the engine knows it; where the file says 0, the engine has its default.
func definition(conf *config.Config, q config.Queue) queue.Queue {
	d := conf.Queues.Defaults
	def := queue.Queue{
		Name:        q.Name,
		Concurrency: q.Concurrency,
		Rate:        queue.Rate{Jobs: q.Rate.Jobs, Per: q.Rate.Per, Burst: q.Rate.Burst},
		Attempts:    orElse(q.Attempts, d.Attempts),
		Backoff: queue.Backoff{
			Kind: queue.BackoffKind(q.Backoff.Kind), Delay: orElse(q.Backoff.Delay, d.Backoff), Max: q.Backoff.Max, Jitter: q.Backoff.Jitter,
		},
		Final:      q.Final,
		Timeout:    q.Timeout,
		Completed:  queue.Keep{Age: q.Completed.Age, Count: q.Completed.Count},
		Failed:     queue.Keep{Age: q.Failed.Age, Count: q.Failed.Count},
		MaxPayload: q.MaxPayloadBytes,
		Critical:   q.Criticality == config.Critical,
		DependsOn:  servedNeeds(conf.Queues, q.Name),
		MaxPause:   q.MaxPause,
		Backlog:    queue.Backlog{Limit: offIfZero(d.BacklogLimit)},
		CatchUp:    queue.CatchUp(d.CatchUp),
		Lease:      q.Lease,
		Batch:      queue.Batch{Wait: q.Batch.Wait, Size: q.Batch.Size},
	}
	switch q.Mode {
	case config.PushMode:
		def.Mode = queue.Push
	case config.LeaseMode:
		def.Mode = queue.Lease
	case config.ExecMode:
		def.Mode = queue.Exec
	case config.AddMode:
	}
	return def
}

func orElse[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// servedNeeds are the served queues that a queue depends on, directly or through queues that are only known.
func servedNeeds(queues config.Queues, name string) []string {
	byName := map[string]config.Queue{}
	for _, q := range queues.List {
		byName[q.Name] = q
	}
	var needs []string
	seen := map[string]bool{name: true}
	for open := byName[name].DependsOn; len(open) > 0; {
		on := open[0]
		open = open[1:]
		if seen[on] {
			continue
		}
		seen[on] = true
		if q := byName[on]; q.Mode != "" {
			needs = append(needs, on)
		} else {
			open = append(open, q.DependsOn...)
		}
	}
	return needs
}

func readSchema(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxSchemaBytes {
		return nil, fmt.Errorf("%s has %d bytes, want at most %d", file, info.Size(), maxSchemaBytes)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if err := queue.CheckSchema(text); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return text, nil
}

// GovernorOptions is how the configuration has idle queues followed. The caller adds the feeds.
func GovernorOptions(conf *config.Config) governor.Options {
	return governor.Options{
		Scope: scopeOf(conf), Sweep: conf.Queues.Sweep, Follow: queueFollow, Resync: queueResync, Presence: conf.Queues.Presence,
	}
}

// scopeOf tells apart databases of one Redis, since channels know none.
func scopeOf(conf *config.Config) string {
	if tcp, ok := conf.TCP(); ok {
		if u, err := url.Parse(tcp.URL.Reveal()); err == nil && u.Scheme != "unix" {
			if db := strings.Trim(u.Path, "/"); db != "" {
				return db
			}
		}
	}
	return "0"
}

// runners makes who runs the jobs of the queues of mode push and exec. Changed is called with the name of a
// queue whose endpoint may take jobs again, or takes none for a while; notice with results that were not
// kept.
func runners(conf *config.Config, sender *push.Sender, changed func(queue string), notice func(error)) (map[string]queue.Runner, error) {
	all := map[string]queue.Runner{}
	var problems []error
	for i, q := range conf.Queues.List {
		var (
			r   queue.Runner
			key string
			err error
		)
		switch q.Mode {
		case config.PushMode:
			key = "endpoint"
			r, err = sender.Endpoint(push.EndpointOptions{
				URL: q.Endpoint.Reveal(), Secrets: pushSecrets(conf.Queues.Push), Timeout: q.Timeout,
				Changed: func() { changed(q.Name) }, Notice: notice,
			})
		case config.ExecMode:
			key = "command"
			r, err = child.New(commandOptions(q, notice))
		case config.LeaseMode, config.AddMode, "":
			continue
		}
		if err != nil {
			problems = append(problems, &config.Problem{Key: fmt.Sprintf("queues.list[%d].%s", i, key), Message: err.Error()})
			continue
		}
		all[q.Name] = r
	}
	return all, errors.Join(problems...)
}

func pushSecrets(p config.Push) [][]byte {
	secrets := [][]byte{[]byte(p.Secret.Reveal())}
	if p.FormerSecret != "" {
		secrets = append(secrets, []byte(p.FormerSecret.Reveal()))
	}
	return secrets
}

func commandOptions(q config.Queue, notice func(error)) child.Options {
	pass := q.Exec.Env
	if len(pass) == 0 {
		pass = []string{"PATH"}
	}
	return child.Options{
		Command: q.Command, Dir: q.Exec.Dir, Pass: pass, Timeout: q.Timeout, Notice: notice,
		Limits: child.Limits{
			CPU: time.Duration(q.Exec.CPUSeconds) * time.Second, Memory: int64(q.Exec.MemoryBytes),
			Files: int64(q.Exec.OpenFiles), FileSize: int64(q.Exec.FileBytes),
		},
	}
}
