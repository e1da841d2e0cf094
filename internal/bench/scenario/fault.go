package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/embedded"
)

// Faults are what goes wrong between us and the embedded Redis.
type Faults struct {
	// Latency is added to everything that is sent together.
	Latency time.Duration

	// Drop is the share of writes, 0 to 1, upon which the connection breaks.
	Drop float64

	// Quota is the number of billed commands after which they are refused, and Connections the number of
	// connections; 0 means no limit.
	Quota       int64
	Connections int
}

// ParseFaults reads "latency=200ms,drop=1%,quota=10000,connections=2".
func ParseFaults(text string) (Faults, error) {
	var (
		f    Faults
		errs []error
	)
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		var err error
		switch name {
		case "latency":
			if f.Latency, err = time.ParseDuration(value); err == nil && (f.Latency < 0 || f.Latency > time.Minute) {
				err = errors.New("want 0s to 1m")
			}
		case "drop":
			number, percent := strings.CutSuffix(value, "%")
			if f.Drop, err = strconv.ParseFloat(number, 64); percent {
				f.Drop /= 100
			}
			if err == nil && !(f.Drop >= 0 && f.Drop <= 1) {
				err = errors.New("want 0% to 100%")
			}
		case "quota":
			if f.Quota, err = strconv.ParseInt(value, 10, 64); err == nil && f.Quota < 1 {
				err = errors.New("want 1 or more")
			}
		case "connections":
			if f.Connections, err = strconv.Atoi(value); err == nil && f.Connections < 1 {
				err = errors.New("want 1 or more")
			}
		default:
			err = errors.New("want latency, drop, quota or connections")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", part, err))
		}
	}
	return f, errors.Join(errs...)
}

// An Embedded is a Redis inside this process, with faults.
type Embedded struct {
	// URL is where to reach it.
	URL string

	server   *embedded.Server
	listener net.Listener
	ended    sync.WaitGroup
}

// StartEmbedded starts one. It is no evidence for anything but how an application behaves while things go
// wrong.
func StartEmbedded(ctx context.Context, f Faults) (*Embedded, error) {
	server, err := embedded.Start(ctx, embedded.Options{Plan: embedded.Plan{
		Latency: f.Latency, MonthlyCommands: f.Quota, MaxConnections: f.Connections,
	}})
	if err != nil {
		return nil, err
	}
	e := &Embedded{server: server, URL: server.URL()}
	if f.Drop == 0 {
		return e, nil
	}
	var lc net.ListenConfig
	if e.listener, err = lc.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	e.URL = "redis://" + e.listener.Addr().String()
	e.ended.Go(func() { e.lose(f.Drop) })
	return e, nil
}

// Close ends it and everything that goes through it.
func (e *Embedded) Close() error {
	var err error
	if e.listener != nil {
		err = e.listener.Close()
	}
	err = errors.Join(err, e.server.Close())
	e.ended.Wait()
	return err
}

// lose passes connections on, and breaks each at a write with the given probability. Which writes those
// are is the same in each run.
func (e *Embedded) lose(share float64) {
	for n := uint64(1); ; n++ {
		client, err := e.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", e.server.Addr()) //nolint:noctx // it is in this process, and Close ends it
		if err != nil {
			_ = client.Close()
			continue
		}
		random := rand.New(rand.NewPCG(n, 11)) //nolint:gosec // chance, no secret
		e.ended.Go(func() {
			defer func() { _, _ = client.Close(), server.Close() }()
			_, _ = io.Copy(client, server)
		})
		e.ended.Go(func() {
			defer func() { _, _ = client.Close(), server.Close() }()
			buf := make([]byte, 64<<10)
			for {
				k, err := client.Read(buf)
				if err != nil || random.Float64() < share {
					return
				}
				if _, err := server.Write(buf[:k]); err != nil {
					return
				}
			}
		})
	}
}
