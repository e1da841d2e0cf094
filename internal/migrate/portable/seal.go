package portable

import (
	"context"
	_ "embed" // the script is compiled in
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

//go:embed seal.lua
var sealLua string

// Gone is the seal of a key that is not there.
const Gone = "none"

// Changed is what Unlink says of a key that was changed since it was sealed.
const Changed = "changed"

// A Seal is a short fingerprint of a key, by which Unlink tells whether it was changed since: of its type,
// its size, whether it expires, and its values. Of a key of more than a thousand values (of a string, more
// than 64 KiB) the seal that a server makes covers the ends alone, so that it never keeps the server busy;
// see Whole and Summary.Seal.
type Seal struct {
	Text string

	// Left is how long the key had to live when it was sealed; negative where it does not expire.
	Left time.Duration
}

// Gone is whether there was no key.
func (s Seal) Gone() bool { return s.Text == Gone }

// Whole is true when a seal covers every value of its key.
func Whole(seal string) bool { return !strings.HasSuffix(seal, "+") }

// Seals seals the named keys. Price: 1 script of about 4 commands for each key, in one round trip.
func Seals(ctx context.Context, client redis.Cmdable, names []string) ([]Seal, error) {
	cmds, err := sealed(ctx, client, names, nil)
	return readSeals(names, cmds, err)
}

// ReadSeals is Seals with the script run as one that only reads, which Redis has since version 7; an older
// server is asked as Seals does. Price: as Seals.
func ReadSeals(ctx context.Context, client redis.Cmdable, names []string) ([]Seal, error) {
	if len(names) == 0 {
		return nil, nil
	}
	script := redis.NewScript(sealLua)
	cmds := make([]*redis.Cmd, len(names))
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			cmds[i] = p.EvalShaRO(ctx, script.Hash(), []string{name}, "")
		}
		return nil
	})
	switch {
	case redis.HasErrorPrefix(err, "NOSCRIPT"):
		if err = script.EvalRO(ctx, client, names[:1], "").Err(); err != nil {
			return nil, fmt.Errorf("seal keys: %w", err)
		}
		return ReadSeals(ctx, client, names)
	case upstream.Classify(err) == upstream.Unavailable:
		return Seals(ctx, client, names)
	}
	return readSeals(names, cmds, err)
}

// readSeals reads what a server answered to those who asked for seals.
func readSeals(names []string, cmds []*redis.Cmd, err error) ([]Seal, error) {
	if err != nil {
		return nil, fmt.Errorf("seal keys: %w", err)
	}
	out := make([]Seal, len(cmds))
	for i, cmd := range cmds {
		reply, err := cmd.Slice()
		if err != nil {
			return nil, fmt.Errorf("seal %q: %w", names[i], err)
		}
		if len(reply) != 2 {
			return nil, fmt.Errorf("seal %q: got %d values, want 2", names[i], len(reply))
		}
		text, isText := reply[0].(string)
		left, isNumber := reply[1].(int64)
		if !isText || !isNumber {
			return nil, fmt.Errorf("seal %q: got %T and %T, want a text and a number", names[i], reply[0], reply[1])
		}
		out[i] = Seal{Text: text, Left: time.Duration(left) * time.Millisecond}
	}
	return out, nil
}

// Unlink deletes those of names that are still as they were sealed, and answers for each "" when it did,
// Gone or Changed when it did not. A seal that covers only the ends of its key is refused. Price: as Seals,
// and 1 more in each script; that of unlinkWhole for a key whose seal is that of a Summary.
func Unlink(ctx context.Context, client redis.UniversalClient, names, seals []string) ([]string, error) {
	if len(names) != len(seals) {
		return nil, fmt.Errorf("unlink: got %d names and %d seals", len(names), len(seals))
	}
	out := make([]string, len(names))
	var small []int
	for i, seal := range seals {
		switch {
		case !Whole(seal) || seal == "":
			return nil, fmt.Errorf("unlink %q: its seal does not cover all of it", names[i])
		case strings.HasPrefix(seal, summarySeal):
		default:
			small = append(small, i)
		}
	}
	some, wants := make([]string, len(small)), make([]string, len(small))
	for n, i := range small {
		some[n], wants[n] = names[i], seals[i]
	}
	cmds, err := sealed(ctx, client, some, wants)
	if err != nil {
		return nil, fmt.Errorf("unlink keys: %w", err)
	}
	for n, i := range small {
		if out[i], err = cmds[n].Text(); err != nil {
			return nil, fmt.Errorf("unlink %q: %w", names[i], err)
		}
	}
	for i, seal := range seals {
		if !strings.HasPrefix(seal, summarySeal) {
			continue
		}
		if out[i], err = unlinkWhole(ctx, client, names[i], seal); err != nil {
			return nil, fmt.Errorf("unlink %q: %w", names[i], err)
		}
	}
	return out, nil
}

// sealed runs the script for each of names. What a single one has as its error is left to the caller.
func sealed(ctx context.Context, client redis.Cmdable, names, seals []string) ([]*redis.Cmd, error) {
	if len(names) == 0 {
		return nil, nil
	}
	script := redis.NewScript(sealLua)
	cmds := make([]*redis.Cmd, len(names))
	ask := func() error {
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, name := range names {
				want := ""
				if seals != nil {
					want = seals[i]
				}
				cmds[i] = script.EvalSha(ctx, p, []string{name}, want)
			}
			return nil
		})
		return err
	}
	err := ask()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		// Every one of them was refused alike, so none has run.
		if err = script.Load(ctx, client).Err(); err == nil {
			err = ask()
		}
	}
	if _, refused := errors.AsType[redis.Error](err); err != nil && !refused {
		return nil, err
	}
	return cmds, nil
}
