package portable

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// summarySeal begins the seal of a Summary.
const summarySeal = "sum:"

// Seal is the seal of a key of any size: it covers every value, and is made here of what was read, a portion
// at a time. Of a Summary that was made while the key was saved it is the seal of exactly what was saved.
func (s Summary) Seal() string {
	ends := ":stays"
	if !s.ExpireAt.IsZero() {
		ends = ":expires"
	}
	return summarySeal + s.Sum + ends
}

// ErrUnwatchable means that a key of more than a thousand values was not deleted, because the way to this
// Redis has no WATCH, without which nobody can tell that all of it is still what was sealed.
var ErrUnwatchable = errors.New("a key of more than a thousand values is deleted only where WATCH can be sent")

// unlinkWhole deletes a key that is still what its Summary was made of. The server itself says, by WATCH,
// that nobody changed it between being read and being deleted. Price: 5 commands, and those of a Reader.
func unlinkWhole(ctx context.Context, client redis.UniversalClient, name, seal string) (string, error) {
	answer, watching := "", false
	err := client.Watch(ctx, func(tx *redis.Tx) error {
		watching = true
		now, err := Summarize(ctx, tx, name)
		if err != nil {
			return err
		}
		switch {
		case now.Name == "":
			answer = Gone
			return nil
		case now.Seal() != seal:
			answer = Changed
			return nil
		}
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Unlink(ctx, name)
			return nil
		})
		return err
	}, name)
	if errors.Is(err, redis.TxFailedErr) {
		return Changed, nil
	}
	if _, refused := errors.AsType[redis.Error](err); refused && !watching {
		return "", fmt.Errorf("%w: %w", ErrUnwatchable, err)
	}
	return answer, err
}

// Summarize reads a whole key; the name of the Summary is empty where there is none. Price: that of a Reader.
func Summarize(ctx context.Context, client redis.Cmdable, name string) (Summary, error) {
	var d Digest
	_, err := NewReader(client).Read(ctx, []string{name}, &d)
	return d.Keys[name], err
}
