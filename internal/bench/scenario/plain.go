package scenario

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// writeStrings writes o.Keys strings under a prefix, with a time to live.
func writeStrings(ctx context.Context, t Target, o Options, own string) error {
	client, value := t.Upstream.As(meter.Bench), string(payload(o))
	const together = 200
	for k := 0; k < o.Keys; k += together {
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := k; i < min(k+together, o.Keys); i++ {
				p.Set(ctx, own+":"+name(i), value, o.TTL)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("write the keys to read: %w", err)
		}
	}
	return nil
}

// plainGet reads strings through client.
func plainGet(ctx context.Context, t Target, o Options, client redis.UniversalClient, closing func() error) (*Prepared, error) {
	own, choose, value := prefix(), newChooser(o), string(payload(o))
	if err := writeStrings(ctx, t, o, own); err != nil {
		return nil, errors.Join(err, closing())
	}
	return &Prepared{
		Operation: func(ctx context.Context, _ *bench.Span) error {
			key, _ := choose.next()
			got, err := client.Get(ctx, own+":"+name(key)).Result()
			if err == nil && got != value {
				return errors.New("the answer is not the value that was stored")
			}
			return err
		},
		Close: func(ctx context.Context) error {
			return errors.Join(unlink(ctx, t.Upstream.As(meter.Bench), t.Cluster, ownNames(own, o.Keys)), closing())
		},
	}, nil
}

func plainTCP(ctx context.Context, t Target, o Options) (*Prepared, error) {
	return plainGet(ctx, t, o, t.Upstream.As(meter.Bench), func() error { return nil })
}

// plainREST reads over the target's own REST API, or over our gateway in front of it.
func plainREST(ctx context.Context, t Target, o Options) (*Prepared, error) {
	if t.Upstream.Transport() != "tcp" {
		return plainGet(ctx, t, o, t.Upstream.As(meter.Bench), func() error { return nil })
	}
	door, err := openDoor(ctx, t)
	if err != nil {
		return nil, err
	}
	opts := upstream.Options{
		REST: upstream.REST{URL: door.url, Token: doorToken}, Component: meter.Bench, Timeout: o.Timeout, Lazy: true,
	}
	if t.Parts != nil {
		opts.Timed = t.Parts.Record
	}
	up, err := upstream.Open(ctx, opts)
	if err != nil {
		return nil, errors.Join(err, door.close())
	}
	return plainGet(ctx, t, o, up.Client(), func() error { return errors.Join(up.Close(), door.close()) })
}

// gatewayGet reads through our gateway as any HTTP client does, with the time split into its parts.
func gatewayGet(ctx context.Context, t Target, o Options) (*Prepared, error) {
	door, err := openDoor(ctx, t)
	if err != nil {
		return nil, err
	}
	own, choose := prefix(), newChooser(o)
	if err := writeStrings(ctx, t, o, own); err != nil {
		return nil, errors.Join(err, door.close())
	}
	client, header := httpClient(), http.Header{"Authorization": {"Bearer " + doorToken}}
	return &Prepared{
		Operation: func(ctx context.Context, span *bench.Span) error {
			key, _ := choose.next()
			e := Endpoint{URL: door.url + "/get/" + own + ":" + name(key), Method: "GET", Header: header}
			return e.once(ctx, client, span)
		},
		Close: func(ctx context.Context) error {
			client.CloseIdleConnections()
			return errors.Join(unlink(ctx, t.Upstream.As(meter.Bench), t.Cluster, ownNames(own, o.Keys)), door.close())
		},
	}, nil
}

// doorToken guards the benchmark's own gateway, which listens on loopback for as long as the scenario runs.
const doorToken = "benchmark"

// A door is our gateway in front of the target.
type door struct {
	url   string
	close func() error
}

func openDoor(ctx context.Context, t Target) (*door, error) {
	shared, err := t.Upstream.Mux()
	if err != nil {
		return nil, err
	}
	g, err := gateway.New(gateway.Options{Mux: shared, Tokens: []gateway.Token{{Secret: doorToken}}})
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(running, listener) }()
	return &door{
		url: "http://" + listener.Addr().String(),
		close: func() error {
			stop()
			return <-ended
		},
	}, nil
}
