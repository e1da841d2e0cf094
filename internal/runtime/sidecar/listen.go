package sidecar

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/gateway"
)

// A ListenError means that an address could not be listened on.
type ListenError struct {
	Key  string // of the configuration
	Addr string
	Err  error
}

// Error says which address, and what to change.
func (e *ListenError) Error() string {
	return fmt.Sprintf("%s: cannot listen on %s: %v", e.Key, e.Addr, e.Err)
}

// Unwrap is the cause.
func (e *ListenError) Unwrap() error { return e.Err }

// A certificate is the one in force; it can be replaced while connections use it.
type certificate struct {
	current atomic.Pointer[tls.Certificate]
}

// load reads the files. On an error the one in force stays.
func (c *certificate) load(s config.Serve) error {
	cert, err := tls.LoadX509KeyPair(s.TLSCert, s.TLSKey)
	if err != nil {
		return fmt.Errorf("serve.tls_cert: %w", err)
	}
	c.current.Store(&cert)
	return nil
}

// wrap makes l speak TLS, 1.2 or newer.
func (c *certificate) wrap(l net.Listener) net.Listener {
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
	})
}

// A door is one listener. Until it is handed on it answers every request with 503 and our instance id:
// so an upstream that is ourselves is recognised, and calls nobody.
type door struct {
	net.Listener

	tcp *net.TCPListener
}

func listen(ctx context.Context, key, addr string) (*door, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, &ListenError{key, addr, err}
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s: %s is no TCP address", key, addr), l.Close())
	}
	return &door{Listener: l, tcp: tcp}, nil
}

// wait answers requests with 503 until the returned function is called, which leaves the door open.
func (d *door) wait(instance string) (done func() error) {
	kept := &keptOpen{Listener: d.Listener, tcp: d.tcp}
	server := &http.Server{
		ReadHeaderTimeout: 2 * time.Second,
		WriteTimeout:      2 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(gateway.InstanceHeader, instance)
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Connection", "close")
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"error":"ERR starting, try again in a second"}`))
		}),
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(kept) }) // it ends with ErrServerClosed
	return func() error {
		_ = server.Close()
		serving.Wait()
		return d.tcp.SetDeadline(time.Time{})
	}
}

// keptOpen is a listener that a server can be taken away from.
type keptOpen struct {
	net.Listener

	tcp *net.TCPListener
}

// Close makes Accept return, and leaves the listener as it is.
func (k *keptOpen) Close() error { return k.tcp.SetDeadline(time.Now()) }
