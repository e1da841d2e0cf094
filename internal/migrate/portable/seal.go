package portable

import (
	"context"
	_ "embed" // the script is compiled in
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed seal.lua
var sealLua string

// Gone is the seal of a key that is not there.
const Gone = "none"

// Changed is what Unlink says of a key that was changed since it was sealed.
const Changed = "changed"

// Seals are short fingerprints of keys, by which Unlink tells whether one was changed since: of its type,
// size, whether it expires and all of its values up to a thousand; of a larger one of both its ends, and
// for a set or a hash its size alone, so that no seal keeps the server busy. Price: 1 script of about 4
// commands for each key, in one round trip.
func Seals(ctx context.Context, client redis.UniversalClient, names []string) ([]string, error) {
	return sealed(ctx, client, names, nil)
}

// Whole is true when a seal covers every value of its key.
func Whole(seal string) bool { return !strings.HasSuffix(seal, "+") }

// ReadSeals is Seals with the script run as one that only reads, which Redis has since version 7; an older
// server is asked as Seals does. Price: as Seals.
func ReadSeals(ctx context.Context, client redis.UniversalClient, names []string) ([]string, error) {
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
	case err != nil && strings.Contains(err.Error(), "unknown command"):
		return Seals(ctx, client, names)
	case err != nil:
		return nil, fmt.Errorf("seal keys: %w", err)
	}
	out := make([]string, len(names))
	var errs []error
	for i, cmd := range cmds {
		out[i], err = cmd.Text()
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

// Unlink deletes those of names that are still as they were sealed, and answers for each "" when it did,
// Gone or Changed when it did not. Price: as Seals, and 1 more in each script.
func Unlink(ctx context.Context, client redis.UniversalClient, names, seals []string) ([]string, error) {
	if len(names) != len(seals) {
		return nil, fmt.Errorf("unlink: got %d names and %d seals", len(names), len(seals))
	}
	return sealed(ctx, client, names, seals)
}

func sealed(ctx context.Context, client redis.UniversalClient, names, seals []string) ([]string, error) {
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
	if err != nil {
		return nil, fmt.Errorf("seal keys: %w", err)
	}
	out := make([]string, len(names))
	for i, cmd := range cmds {
		if out[i], err = cmd.Text(); err != nil {
			return nil, fmt.Errorf("seal %q: %w", names[i], err)
		}
	}
	return out, nil
}
