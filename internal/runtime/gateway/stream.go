package gateway

import (
	"bytes"
	"context"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// heartbeat is a line that clients ignore.
const heartbeat = ": alive\n\n"

// gap is such a line too, for whoever looks: the connection to the Redis was made anew, and what was
// published meanwhile is lost.
const gap = ": messages may have been missed\n\n"

// stream makes the answer a stream of server-sent events.
func (x *exchange) stream(run streamFunc) {
	x.rep.ContentType = streamType
	x.rep.Stream = run
}

// appendEvent appends one event with the parts after each other. A line break makes a further data line, as
// the format wants it; what is not UTF-8 becomes U+FFFD. Strings are never in base64 here, whatever the
// request asked for: no client expects it.
func appendEvent(dst []byte, parts ...[]byte) []byte {
	dst = append(dst, "data: "...)
	for _, p := range parts {
		if !utf8.Valid(p) {
			p = bytes.ToValidUTF8(p, []byte("\uFFFD"))
		}
		for {
			i := bytes.IndexAny(p, "\r\n")
			if i < 0 {
				break
			}
			dst = append(dst, p[:i]...)
			dst = append(dst, "\ndata: "...)
			if p[i] == '\r' && i+1 < len(p) && p[i+1] == '\n' {
				i++
			}
			p = p[i+1:]
		}
		dst = append(dst, p...)
	}
	return append(dst, "\n\n"...)
}

// subscribe answers with the messages of the channels, or patterns, in the rest of the path, until the
// client goes.
func (x *exchange) subscribe(ctx context.Context, rest []byte, patterns bool) {
	word := pathSubscribe
	if patterns {
		word = pathPSubscribe
	}
	if x.g.bell == nil {
		x.fail(400, textNoBell)
		return
	}
	args, err := appendPath(x.args[:0], rest)
	x.args = args
	switch {
	case err != nil:
		x.unparsed("command", err)
		return
	case len(args) == 0:
		x.fail(400, "ERR wrong number of arguments for '"+word+"' command")
		return
	case len(args) > x.g.opts.MaxPipeline:
		x.fail(413, textPipelineSize(x.g.opts.MaxPipeline))
		return
	}
	names := make([]string, len(args))
	for i, a := range args {
		names[i] = string(a)
	}
	ctx, cancel := context.WithTimeout(ctx, x.g.opts.Timeout)
	defer cancel()
	follow := x.g.bell.Subscribe
	if patterns {
		follow = x.g.bell.PSubscribe
	}
	sub, err := follow(ctx, names...)
	if err != nil {
		x.fail(503, textNoSubscription)
		return
	}
	s := &subscriber{g: x.g, sub: sub, word: word, names: names}
	x.stream(s.run)
}

// A subscriber is one client of /subscribe or /psubscribe.
type subscriber struct {
	g     *Gateway
	sub   *upstream.Subscription
	word  string
	names []string
}

func (s *subscriber) run(ctx context.Context, write func([]byte) error) error {
	defer func() { _ = s.sub.Close() }()
	var event []byte
	for i, name := range s.names {
		event = appendEvent(event, []byte(s.word+","+name+","+strconv.Itoa(i+1)))
	}
	if err := write(event); err != nil {
		return err
	}
	heart := time.NewTicker(s.g.opts.Listener.Heartbeat)
	defer heart.Stop()
	for {
		event = event[:0]
		select {
		case m, ok := <-s.sub.C():
			if !ok {
				return s.sub.Err()
			}
			event = appendMessage(event, m)
			// What has come meanwhile goes out in the same write.
			for more := true; more && len(event) < 32<<10; {
				select {
				case m, ok = <-s.sub.C():
					if more = ok; ok {
						event = appendMessage(event, m)
					}
				default:
					more = false
				}
			}
		case <-s.sub.Gaps():
			event = append(event, gap...)
		case <-heart.C:
			event = append(event, heartbeat...)
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := write(event); err != nil {
			return err
		}
	}
}

func appendMessage(dst []byte, m upstream.Message) []byte {
	if m.Pattern != "" {
		return appendEvent(dst, []byte("pmessage,"+m.Pattern+","+m.Channel+","), m.Payload)
	}
	return appendEvent(dst, []byte("message,"+m.Channel+","), m.Payload)
}
