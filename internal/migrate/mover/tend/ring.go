package tend

import (
	"context"
	"fmt"
	"net/url"
	"strings"
)

// bells are the channels on which redisopt's own queues hear that there is work, whatever their scope.
const bells = "redisopt:*:queue:~bell"

// ring tells redisopt's own workers, which do not poll, that jobs wait in bands of asynq's queue, or that one is
// due at a Unix time. It is only for speed: without it they notice at their next sweep, so what fails here is
// not told. Stock asynq polls and needs none. Price: one command, and one for each program that follows.
func (q *Queue) ring(ctx context.Context, due int64, bands ...string) {
	channels, err := q.client.PubSubChannels(ctx, bells).Result()
	if err != nil {
		return
	}
	var message strings.Builder
	message.WriteString("1 tend\n")
	for _, band := range bands {
		if name := url.QueryEscape(q.bandName(band)); due > 0 {
			fmt.Fprintf(&message, "s %s %d u\n", name, due)
		} else {
			fmt.Fprintf(&message, "p %s\n", name)
		}
	}
	for _, channel := range channels {
		_ = q.client.Publish(ctx, channel, message.String()).Err() // see above
	}
}
