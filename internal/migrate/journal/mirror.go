package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// mirror is the copy in Redis: one list, one element a line.
type mirror struct {
	client  redis.UniversalClient
	key     string
	fence   Fence
	timeout time.Duration
}

// appendScript adds line ARGV[2], which is entry number ARGV[1], unless the fence has been taken over.
// Asking again after a lost reply finds the line in place and succeeds. The fence key is given only
// when there is a fence.
//
// It answers 1 when the line is in place, 0 when the fence is lost, -1 when another line is there or
// lines before it are missing.
var appendScript = redis.NewScript(`
if KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[3] then return 0 end
local n = redis.call('LLEN', KEYS[1])
local want = tonumber(ARGV[1])
if n == want - 1 then
  redis.call('RPUSH', KEYS[1], ARGV[2])
  return 1
end
if n >= want and redis.call('LINDEX', KEYS[1], want - 1) == ARGV[2] then return 1 end
return -1
`)

// errOutOfStep means that the mirror does not hold the entries that precede the one to be appended.
var errOutOfStep = errors.New("the copy in Redis was changed by someone else")

// read returns all lines. Price: 1 command.
func (m *mirror) read(ctx context.Context) ([]Entry, [][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	raw, err := m.client.LRange(ctx, m.key, 0, -1).Result()
	if err != nil {
		return nil, nil, fmt.Errorf("read journal %s: %w", m.key, err)
	}
	lines := make([][]byte, len(raw))
	for i, s := range raw {
		lines[i] = []byte(s)
	}
	entries, err := chain(lines)
	if err != nil {
		return nil, nil, &DamagedError{Where: m.key, Err: err, Lines: len(lines)}
	}
	return entries, lines, nil
}

// beside adds to a *DamagedError of the local file what the mirror is; of any other error, and without a
// mirror, it changes nothing. Price: 1 command for a damaged file.
func (m *mirror) beside(ctx context.Context, err error) error {
	damaged, ok := errors.AsType[*DamagedError](err)
	if !ok || m == nil {
		return err
	}
	entries, _, readErr := m.read(ctx)
	damaged.Other, damaged.OtherLen, damaged.OtherErr = m.key, len(entries), readErr
	return err
}

// append adds line as entry seq. Price: 1 command, and 3 in the script (2 without a fence).
func (m *mirror) append(ctx context.Context, seq int64, line []byte) error {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	keys, args := []string{m.key}, []any{seq, line}
	if m.fence.Key != "" {
		keys, args = append(keys, m.fence.Key), append(args, m.fence.Token)
	}
	answer, err := appendScript.Run(ctx, m.client, keys, args...).Int()
	switch {
	case err != nil:
		return fmt.Errorf("append to journal %s: %w", m.key, err)
	case answer == 1:
		return nil
	case answer == 0:
		return fmt.Errorf("append to journal %s: %w", m.key, ErrFenced)
	default:
		return fmt.Errorf("append entry %d to journal %s: %w", seq, m.key, errOutOfStep)
	}
}
