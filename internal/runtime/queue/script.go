package queue

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// The scripts; each explains its keys and arguments.
//
//go:embed enqueue.lua
var enqueueText string

//go:embed batch.lua
var batchText string

//go:embed settle.lua
var settleText string

//go:embed keep.lua
var keepText string

//go:embed trim.lua
var trimText string

//go:embed find.lua
var findText string

//go:embed list.lua
var listText string

//go:embed dead.lua
var deadText string

//go:embed depth.lua
var depthText string

//go:embed newest.lua
var newestText string

//go:embed cancel.lua
var cancelText string

// scripts are the scripts ready to run. A Redis knows them by their hash after the first time.
type scripts struct {
	enqueue, batch, settle, keep, trim, find, list, dead, depth, newest, cancel *redis.Script
}

func newScripts() scripts {
	return scripts{
		enqueue: redis.NewScript(enqueueText), batch: redis.NewScript(batchText), settle: redis.NewScript(settleText),
		keep: redis.NewScript(keepText), trim: redis.NewScript(trimText), find: redis.NewScript(findText),
		list: redis.NewScript(listText), dead: redis.NewScript(deadText), depth: redis.NewScript(depthText),
		newest: redis.NewScript(newestText), cancel: redis.NewScript(cancelText),
	}
}

var errReply = errors.New("the script answered something else than expected")

// run runs a script within CommandTimeout. Its first value is how many commands it ran, which is reported;
// the others are returned.
func (e *Engine) run(ctx context.Context, s *redis.Script, keys []string, args ...any) ([]any, error) {
	ctx, cancel := context.WithTimeout(ctx, e.opts.CommandTimeout)
	defer cancel()
	reply, err := s.Run(ctx, e.opts.Client, keys, args...).Slice()
	if err != nil {
		return nil, err
	}
	if len(reply) == 0 {
		return nil, errReply
	}
	calls, ok := reply[0].(int64)
	if !ok {
		return nil, errReply
	}
	e.opts.InScript("evalsha", calls)
	return reply[1:], nil
}

// texts reads a list of strings out of a reply; nil values are empty.
func texts(v any) ([]string, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, errReply
	}
	out := make([]string, len(list))
	for i, x := range list {
		switch x := x.(type) {
		case string:
			out[i] = x
		case int64:
			out[i] = fmt.Sprint(x)
		case nil:
		default:
			return nil, errReply
		}
	}
	return out, nil
}

// Where asynq keeps a queue.
const (
	allQueues     = "asynq:queues"
	cancelChannel = "asynq:cancel"
)

func key(band, part string) string { return "asynq:{" + band + "}:" + part }

func taskKey(band, id string) string { return key(band, "t:"+id) }
