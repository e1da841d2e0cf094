package migrate

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/redis/go-redis/v9"
)

// Redis keys that are about all migrations of one database.
const (
	idKey       = "redisopt:id"         // string: which database this is, so that a journal is not taken to another
	registryKey = "redisopt:migrations" // hash: every Target that was ever begun here
)

// How the names of keys begin that are about one migration.
const (
	leasePrefix   = "redisopt:lease:"
	fencePrefix   = "redisopt:fence:"
	journalPrefix = "redisopt:journal:"
	intentsPrefix = "redisopt:intents:"
	wholePrefix   = "{redisopt:" // the scope of a whole database
)

// Account is whether a key is kept by migrations themselves and is no key of an application: which database this is,
// which migrations there are, their journals, leases and intents, and what a step fences with them.
func Account(key string) bool {
	if key == idKey || key == registryKey {
		return true
	}
	return slices.ContainsFunc([]string{leasePrefix, fencePrefix, journalPrefix, intentsPrefix, wholePrefix}, func(prefix string) bool {
		return strings.HasPrefix(key, prefix)
	})
}

// A Target is what a migration is about: one queue in one phase, or with neither prefix nor queue the
// whole database in one phase. The prefix and name are those of the queue before the migration.
type Target struct {
	Phase  string `json:"phase"`  // "phase3"
	Prefix string `json:"prefix"` // Redis key prefix of the queue, taken literally
	Queue  string `json:"queue"`
}

// Whole is true when t is about the whole database.
func (t Target) Whole() bool { return t.Prefix == "" && t.Queue == "" }

// String is how t is shown to people.
func (t Target) String() string {
	if t.Whole() {
		return t.Phase
	}
	return fmt.Sprintf("%s of %s:%s", t.Phase, t.Prefix, t.Queue)
}

func (t Target) validate() error {
	if t.Whole() && t.Phase != "" {
		return nil
	}
	var errs []error
	for name, value := range map[string]string{"phase": t.Phase, "prefix": t.Prefix, "queue": t.Queue} {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s: got none", name))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// scope is the part of a key that says whose it is. The phase of a whole database is in braces, so that
// its lease, its fence and what a step fences with them share a slot in a Cluster.
func (t Target) scope() string {
	if t.Whole() {
		return wholePrefix + t.Phase + "}"
	}
	return t.Prefix + ":" + t.Queue
}

// LeaseKey is the Redis key of the lease on t's queue: one, whatever the phase. It contains the queue's
// prefix, so that a hash tag in that puts it into the queue's slot. A phase of the whole database has a
// lease of its own.
func (t Target) LeaseKey() string { return leasePrefix + t.scope() }

// counterKey is the Redis key of the lease's fence number.
func (t Target) counterKey() string { return fencePrefix + t.scope() }

// JournalKey is the Redis list that mirrors t's journal.
func (t Target) JournalKey() string {
	if t.Whole() {
		return journalPrefix + t.scope()
	}
	return journalPrefix + t.Phase + ":" + t.Prefix + ":" + t.Queue
}

// file is the path of t's journal under dir, for the database called id. The name is for people; the
// digits in it keep names apart that a file system cannot.
func (t Target) file(dir, id string) string {
	sum := sha256.Sum256([]byte(t.Phase + "\x00" + t.Prefix + "\x00" + t.Queue))
	readable := strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_') {
			return r
		}
		return '_'
	}, t.Queue)
	if t.Whole() {
		readable = "all"
	}
	const longest = 40
	return filepath.Join(dir, "migrations", id,
		fmt.Sprintf("%s-%s-%s.journal", t.Phase, readable[:min(len(readable), longest)], hex.EncodeToString(sum[:4])))
}

// Readings is the path of the file beside t's journal under dir that keeps what was seen of its jobs and of the
// application, for the database called id.
func (t Target) Readings(dir, id string) string { return t.file(dir, id) + ".readings" }

// Targets lists every migration that was ever begun in the database, sorted. Price: 1 command.
func Targets(ctx context.Context, client redis.UniversalClient) ([]Target, error) {
	fields, err := client.HGetAll(ctx, registryKey).Result()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", registryKey, err)
	}
	out := make([]Target, 0, len(fields))
	for field, value := range fields {
		var t Target
		if err := json.Unmarshal([]byte(value), &t); err != nil {
			return nil, fmt.Errorf("read field %s of %s: %w", field, registryKey, err)
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Target) int { return strings.Compare(a.String(), b.String()) })
	return out, nil
}

// register makes t known to Targets. Price: 1 command.
func register(ctx context.Context, client redis.UniversalClient, t Target) error {
	value, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if err := client.HSet(ctx, registryKey, t.String(), value).Err(); err != nil {
		return fmt.Errorf("register in %s: %w", registryKey, err)
	}
	return nil
}

// databaseID names the database, empty when no migration was ever begun in it. Price: 1 command.
func databaseID(ctx context.Context, client redis.UniversalClient) (string, error) {
	id, err := client.Get(ctx, idKey).Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", idKey, err)
	}
	return id, validID(id)
}

// giveID names the database if it has no name yet. Price: 2 commands, 1 when it has.
func giveID(ctx context.Context, client redis.UniversalClient) (string, error) {
	id, err := databaseID(ctx, client)
	if err != nil || id != "" {
		return id, err
	}
	if err := client.SetNX(ctx, idKey, strings.ToLower(rand.Text()), 0).Err(); err != nil {
		return "", fmt.Errorf("write %s: %w", idKey, err)
	}
	return databaseID(ctx, client)
}

// validID keeps a value that others may write from becoming a path.
func validID(id string) error {
	for _, r := range id {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			return fmt.Errorf("key %s holds %q, want letters and digits", idKey, id)
		}
	}
	return nil
}
