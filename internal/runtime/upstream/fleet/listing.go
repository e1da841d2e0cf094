package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Member is a replica that holds connections or waits for them.
type Member struct {
	// Replica and Instance are its names; see Options.
	Replica  string `json:"name"`
	Instance string `json:"instance"`

	// Host and Version say where and what it runs.
	Host    string `json:"host"`
	Version string `json:"version"`

	// Connections is how many it holds or asks for.
	Connections int `json:"connections"`

	// Started is when the process began, by its own clock.
	Started time.Time `json:"started"`

	// Over is true when it holds connections although they did not fit below the cap: it had lost its
	// place, others took it, and it still works.
	Over bool `json:"over"`

	// Schema is the highest schema it knows.
	Schema int `json:"schema"`

	// Expires is when its place, or its turn in line, comes free unless renewed, by the server's clock.
	Expires time.Time `json:"-"`

	// Since is from when it has been waiting, by the server's clock; zero for a holder.
	Since time.Time `json:"-"`
}

// id is the member's name in the hash.
func (m Member) id() string { return m.Replica + "/" + m.Instance }

// A Listing is who holds and who waits at one moment.
type Listing struct {
	// At is that moment by the server's clock.
	At time.Time

	// Holders have a place, sorted by name; Waiting are in line, the first first.
	Holders, Waiting []Member
}

// Connections is the number of connections that the holders may have open together.
func (l Listing) Connections() int {
	sum := 0
	for _, m := range l.Holders {
		sum += m.Connections
	}
	return sum
}

// Duplicates are the names that more than one holder has.
func (l Listing) Duplicates() []string {
	var names []string
	for i := 1; i < len(l.Holders); i++ {
		if l.Holders[i].Replica == l.Holders[i-1].Replica {
			names = append(names, l.Holders[i].Replica)
		}
	}
	return slices.Compact(names)
}

// List reads who holds and who waits. It costs 2 commands, in one round trip, and writes nothing. An
// empty key means DefaultKey.
func List(ctx context.Context, client redis.UniversalClient, key string) (Listing, error) {
	if key == "" {
		key = DefaultKey
	}
	pipe := client.Pipeline()
	now, fields := pipe.Time(ctx), pipe.HGetAll(ctx, key)
	if _, err := pipe.Exec(ctx); err != nil {
		return Listing{}, fmt.Errorf("fleet: read %s: %w", key, err)
	}
	return parse(fields.Val(), now.Val(), key, Schema)
}

// parse reads the hash as the script does: whoever is past its time is not there.
func parse(fields map[string]string, now time.Time, key string, knows int) (Listing, error) {
	l := Listing{At: now.UTC()}
	if text, ok := fields["schema"]; ok {
		schema, err := strconv.Atoi(text)
		switch {
		case err != nil:
			return l, &DamagedError{key, "schema"}
		case schema > knows && len(fields) > 1: // of a fleet that has left only the number is there
			return l, &SchemaError{key, schema, knows}
		}
	}
	for field, text := range fields {
		kind, id, _ := strings.Cut(field, ":")
		if kind != "member" && kind != "wait" {
			continue
		}
		expires, err := strconv.ParseInt(fields["until:"+id], 10, 64)
		if err != nil || expires <= now.UnixMilli() {
			continue
		}
		var m Member
		if json.Unmarshal([]byte(text), &m) != nil || m.Connections < 0 {
			return l, &DamagedError{key, field}
		}
		m.Expires = time.UnixMilli(expires).UTC()
		if kind == "member" {
			l.Holders = append(l.Holders, m)
			continue
		}
		since, _ := strconv.ParseInt(fields["since:"+id], 10, 64)
		m.Since = time.UnixMilli(since).UTC()
		l.Waiting = append(l.Waiting, m)
	}
	slices.SortFunc(l.Holders, func(a, b Member) int { return strings.Compare(a.id(), b.id()) })
	slices.SortFunc(l.Waiting, func(a, b Member) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.id(), b.id()))
	})
	return l, nil
}
