// Package replica asks the replicas of redisopt serve what they see, and tells each of them by itself what is
// in force in an emergency. It speaks their HTTP API and sends no command to a Redis.
package replica

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// DefaultTimeout bounds one answer of one replica.
const DefaultTimeout = 3 * time.Second

const maxAnswer = 4 << 20

// A Fleet is the replicas that are known. It is safe for concurrent use.
type Fleet struct {
	// URLs are the addresses of their APIs: http://10.0.0.7:8080.
	URLs []string

	// Token is shown to each; empty where they ask for none. Reading needs the scope control:read,
	// Override admin.
	Token string

	// Timeout bounds one answer. Default DefaultTimeout.
	Timeout time.Duration

	// Client sends the requests. Default: one without a proxy; see Trusting.
	Client *http.Client
}

// Trusting is a Client for replicas whose certificates pem vouches for, besides those that the system trusts.
func Trusting(pem []byte) (*http.Client, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system without any
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("no PEM certificate in it")
	}
	return client(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}), nil
}

// client is one without a proxy that keeps no connection open.
func client(conf *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: conf}}
}

// A Route is what GET /v1/ramp says about one route.
type Route struct {
	Name    string  `json:"name"`
	Percent float64 `json:"percent"`
	Mirror  float64 `json:"mirror_percent"`
	Shadow  float64 `json:"shadow_percent"`
	Killed  bool    `json:"killed"`
}

// A Staying is a rule of limits of which something stays on the old side.
type Staying struct {
	Rule string `json:"rule"`
	Why  string `json:"why"`
}

// A Ramp is what one replica has in force.
type Ramp struct {
	Epoch        int64     `json:"epoch"`
	Configured   bool      `json:"configured"`
	SameDatabase bool      `json:"same_database"`
	Routes       []Route   `json:"routes"`
	Staying      []Staying `json:"staying"` // rules whose subjects stay
	Former       []Staying `json:"former"`  // rules that go on reading a former limiter's sets there
}

// Route is what r has in force for a route; nothing where it does not know it.
func (r Ramp) Route(name string) Route {
	if i := slices.IndexFunc(r.Routes, func(x Route) bool { return x.Name == name }); i >= 0 {
		return r.Routes[i]
	}
	return Route{Name: name}
}

// A Side is what one side did of a route.
type Side struct {
	Calls    int64   `json:"calls"`
	Errors   int64   `json:"errors"`
	Hits     int64   `json:"hits"`
	Misses   int64   `json:"misses"`
	FellBack int64   `json:"fell_back"`
	Filled   int64   `json:"filled"`
	P95      float64 `json:"p95_ms"`
	Samples  int64   `json:"samples"`
}

// Counts are what a route did.
type Counts struct {
	Name        string           `json:"name"`
	Old         Side             `json:"old"`
	New         Side             `json:"new"`
	Answers     int64            `json:"answers"`
	AnswersP95  float64          `json:"answers_p95_ms"`
	Compared    map[string]int64 `json:"compared"`
	Differences int64            `json:"differences"`
}

// Stats are what one replica counted between two times.
type Stats struct {
	Covered  float64   `json:"covered"`
	Routes   []Counts  `json:"routes"`
	Backlogs *Backlogs `json:"backlogs,omitempty"` // nil: the replica has no such
}

// Backlogs are what a replica still has to bring to each side.
type Backlogs struct {
	Old Backlog `json:"old"`
	New Backlog `json:"new"`
}

// A Backlog is what still has to be brought to one side.
type Backlog struct {
	Writes int `json:"writes"`
}

// Route is what a route did; nothing where it was not used.
func (s Stats) Route(name string) Counts {
	if i := slices.IndexFunc(s.Routes, func(c Counts) bool { return c.Name == name }); i >= 0 {
		return s.Routes[i]
	}
	return Counts{Name: name}
}

// An Answer is what one replica said, or why it did not.
type Answer[T any] struct {
	URL  string
	Said T
	Err  error
}

// Ramps asks every replica what it has in force, all at the same time. The order is that of URLs.
func (f Fleet) Ramps(ctx context.Context) []Answer[Ramp] {
	return all(ctx, f, f.ramp)
}

// Stats asks every replica what it counted between two times.
func (f Fleet) Stats(ctx context.Context, from, to time.Time) []Answer[Stats] {
	query := url.Values{"from": {from.UTC().Format(time.RFC3339Nano)}, "to": {to.UTC().Format(time.RFC3339Nano)}}.Encode()
	return all(ctx, f, func(ctx context.Context, at string) (Stats, error) {
		var s Stats
		err := f.call(ctx, http.MethodGet, at+"/v1/ramp/stats?"+query, nil, &s)
		return s, err
	})
}

// Members are the names of all replicas that hold connections to the Redis, as the first replica that answers
// knows them. It costs that Redis 2 commands. Where replicas do not register, as over REST, there are none.
func (f Fleet) Members(ctx context.Context) ([]string, error) {
	var last error
	for _, at := range f.URLs {
		var list struct {
			Holders []struct {
				Replica string `json:"replica"`
			} `json:"holders"`
		}
		err := f.call(ctx, http.MethodGet, strings.TrimRight(at, "/")+"/v1/fleet", nil, &list)
		if refused, ok := errors.AsType[*StatusError](err); ok && refused.Status == http.StatusNotFound {
			return nil, nil
		}
		if last = err; err != nil {
			continue
		}
		names := []string{}
		for _, h := range list.Holders {
			names = append(names, h.Replica)
		}
		return names, nil
	}
	return nil, last
}

// An Override is what a replica is told to have in force by itself. Nil leaves things as they are.
type Override struct {
	Ramps  map[string]float64 `json:"ramps,omitempty"`
	Kill   []string           `json:"kill,omitempty"`
	Reason string             `json:"reason"`

	// Back takes every route that a replica has back to nothing, besides what Ramps says. What is
	// mirrored and compared stays so.
	Back bool `json:"-"`
}

// Override tells every replica by itself what is in force, at once and also while its Redis is down: the
// ramps that o names are set, all others stay as they are there, and so does every kill switch.
func (f Fleet) Override(ctx context.Context, o Override) []Answer[Ramp] {
	return all(ctx, f, func(ctx context.Context, at string) (Ramp, error) {
		var now struct {
			Ramps map[string]float64 `json:"ramps"`
			Kill  []string           `json:"kill"`
		}
		if err := f.call(ctx, http.MethodGet, at+"/v1/control", nil, &now); err != nil {
			return Ramp{}, err
		}
		told := Override{Ramps: map[string]float64{}, Reason: o.Reason}
		maps.Copy(told.Ramps, now.Ramps)
		for name := range now.Ramps {
			if o.Back && !strings.HasSuffix(name, ".mirror") && !strings.HasSuffix(name, ".shadow") {
				told.Ramps[name] = 0
			}
		}
		maps.Copy(told.Ramps, o.Ramps)
		if len(o.Kill) > 0 {
			told.Kill = slices.Compact(slices.Sorted(slices.Values(append(now.Kill, o.Kill...))))
		}
		if err := f.call(ctx, http.MethodPost, at+"/v1/control", told, nil); err != nil {
			return Ramp{}, err
		}
		return f.ramp(ctx, at)
	})
}

func (f Fleet) ramp(ctx context.Context, at string) (Ramp, error) {
	var r Ramp
	err := f.call(ctx, http.MethodGet, at+"/v1/ramp", nil, &r)
	return r, err
}

func all[T any](ctx context.Context, f Fleet, ask func(context.Context, string) (T, error)) []Answer[T] {
	out := make([]Answer[T], len(f.URLs))
	var group sync.WaitGroup
	for i, at := range f.URLs {
		group.Go(func() {
			said, err := ask(ctx, strings.TrimRight(at, "/"))
			out[i] = Answer[T]{URL: at, Said: said, Err: err}
		})
	}
	group.Wait()
	return out
}

// A StatusError reports that a replica refused.
type StatusError struct {
	URL    string
	Status int
	Detail string // in its own words
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s answered %d: %s", e.URL, e.Status, e.Detail)
}

// call sends one request and decodes its answer into out, which may be nil.
func (f Fleet) call(ctx context.Context, method, at string, in, out any) error {
	timeout := f.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, at, body)
	if err != nil {
		return fmt.Errorf("replica %s: not an address", at)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if f.Token != "" {
		req.Header.Set("Authorization", "Bearer "+f.Token)
	}
	by := f.Client
	if by == nil {
		by = client(nil)
	}
	answer, err := by.Do(req)
	if err != nil {
		if cause, ok := errors.AsType[*url.Error](err); ok {
			err = cause.Err // the address is in what we say
		}
		return fmt.Errorf("replica %s: %w", req.URL.Host, err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("replica %s: %w", req.URL.Host, err)
	}
	if answer.StatusCode != http.StatusOK {
		var problem struct {
			Detail string `json:"detail"`
		}
		_ = json.Unmarshal(text, &problem) // one that is none says nothing
		return &StatusError{URL: req.URL.Host + req.URL.Path, Status: answer.StatusCode, Detail: problem.Detail}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("replica %s: its answer is not that of redisopt serve: %w", req.URL.Host, err)
	}
	return nil
}
