package outcome

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	metricsName = "metrics"

	// maxBounds is the most buckets of a histogram that are read: they are kept with every reading.
	maxBounds = 1000

	// pageLimit is the most bytes of a metrics page that are read, and pageTimeout how long it may take.
	pageLimit   = 8 << 20
	pageTimeout = 10 * time.Second
)

// MetricsOptions say which page is read, and which series of it mean what.
type MetricsOptions struct {
	// URL is the page, in Prometheus' text format. Required; http or https, without user and password.
	URL string

	// Token, when not empty, is sent as a bearer token.
	Token string

	// Series says which series mean what: the name of a series, with or without labels in braces, by done, failed,
	// errors (counters), waiting or p95_ms (levels). p95_ms may also be the name of a histogram, without _bucket; one
	// in seconds is told by a name that ends in _seconds. Series that differ in other labels are added, and of
	// p95_ms the largest is taken. At least one.
	Series map[string]string

	// Client sends the requests. Default one that follows no redirects.
	Client *http.Client
}

// Metrics reads what an application says of itself. Price: 1 HTTP request a look and no command. It is for one
// goroutine.
type Metrics struct {
	opts   MetricsOptions
	series map[string]selector
}

// NewMetrics returns a source that reads a page. It touches nothing yet.
func NewMetrics(opts MetricsOptions) (*Metrics, error) {
	m := &Metrics{opts: opts, series: map[string]selector{}}
	var errs []error
	u, err := url.Parse(opts.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		errs = append(errs, errors.New("metrics: want the URL of a page, beginning with http:// or https://"))
	case u.User != nil:
		errs = append(errs, errors.New("metrics: the URL has a user or password; give a token by the environment"))
	}
	if len(opts.Series) == 0 {
		errs = append(errs, errors.New("metrics: no series is named, want at least one NAME=SERIES"))
	}
	for _, name := range slices.Sorted(maps.Keys(opts.Series)) {
		if !slices.Contains(Known(), name) {
			errs = append(errs, fmt.Errorf("metrics: got %q, want one of %s", name, strings.Join(Known(), ", ")))
			continue
		}
		sel, err := parseSelector(opts.Series[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("metrics: %s: %w", name, err))
		}
		m.series[name] = sel
	}
	if m.opts.Client == nil {
		m.opts.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return m, errors.Join(errs...)
}

// Name is that of its readings.
func (m *Metrics) Name() string { return metricsName }

// Look reads the page once. A series that is not there is a gap that names it.
func (m *Metrics) Look(ctx context.Context, before *Reading, now time.Time) (Reading, error) {
	var r Reading
	if before != nil {
		r = *before
	}
	r = r.next(metricsName, now)
	r.How = "the metrics page of the application"
	samples, err := m.fetch(ctx)
	if err != nil {
		return r, err
	}
	var lost []string
	if before == nil {
		lost = append(lost, "this is the first look")
	}
	for _, name := range slices.Sorted(maps.Keys(m.series)) {
		sel := m.series[name]
		if name == P95 {
			if err := r.latency(sel, samples); err != nil {
				lost = append(lost, err.Error())
			}
			continue
		}
		v, found := sel.sum(samples)
		switch {
		case !found && (name == Failed || name == Errors): // a counter that appears with its first event
			v = 0
		case !found:
			lost = append(lost, fmt.Sprintf("the page has no series %s", m.opts.Series[name]))
			continue
		}
		if name == Waiting {
			r.Levels[Waiting] = v
			continue
		}
		key := metricsName + ":" + name
		grown, known := since(v, r.Cursor[key])
		if !known && before != nil {
			lost = append(lost, fmt.Sprintf("%s began anew, or was not seen before", m.opts.Series[name]))
		}
		r.Counts[name] += grown
		r.Cursor[key] = number(v)
	}
	r.Gap = strings.Join(lost, "; ")
	return r, nil
}

// latency notes the 95th percentile in milliseconds: the largest of the series, or of a histogram what was seen since
// the look before, on whichever host that was. An error says why
// that cannot be told.
func (r *Reading) latency(sel selector, samples []sample) error {
	factor := 1.0
	if strings.HasSuffix(sel.name, "_seconds") {
		factor = 1000
	}
	now := sel.buckets(samples)
	if len(now) == 0 {
		v, ok := sel.largest(samples)
		if ok {
			r.Levels[P95] = v * factor
		} else if !sel.found(samples) {
			return fmt.Errorf("the page has no series %s", sel)
		}
		return nil
	}
	if len(now) > maxBounds {
		return fmt.Errorf("the histogram %s has %d buckets, and at most %d are read", sel, len(now), maxBounds)
	}
	const key = metricsName + ":" + P95
	was, seen := bucketsOf(r.Cursor[key])
	r.Cursor[key] = bucketText(now)
	for bound, count := range now {
		if count < was[bound] { // the application began anew
			was = nil
			break
		}
	}
	grown := map[float64]float64{}
	for bound, count := range now {
		grown[bound] = count - was[bound]
	}
	if v, ok := quantile(0.95, grown); ok {
		r.Levels[P95], r.Life = v*factor, !seen
	}
	return nil
}

// bucketText is a histogram as a cursor keeps it: bound=count, by bound.
func bucketText(buckets map[float64]float64) string {
	words := make([]string, 0, len(buckets))
	for _, bound := range slices.Sorted(maps.Keys(buckets)) {
		words = append(words, number(bound)+"="+number(buckets[bound]))
	}
	return strings.Join(words, " ")
}

// bucketsOf is what bucketText wrote, and whether it is there and whole.
func bucketsOf(text string) (map[float64]float64, bool) {
	out := map[float64]float64{}
	for word := range strings.FieldsSeq(text) {
		b, c, _ := strings.Cut(word, "=")
		bound, err := strconv.ParseFloat(b, 64)
		count, err2 := strconv.ParseFloat(c, 64)
		if err != nil || err2 != nil {
			return nil, false
		}
		out[bound] = count
	}
	return out, len(out) > 0
}

// fetch reads and parses the page.
func (m *Metrics) fetch(ctx context.Context) ([]sample, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.opts.URL, nil)
	if err != nil {
		return nil, errors.New("metrics page: the URL cannot be used")
	}
	request.Header.Set("Accept", "text/plain;version=0.0.4")
	if m.opts.Token != "" {
		request.Header.Set("Authorization", "Bearer "+m.opts.Token)
	}
	response, err := m.opts.Client.Do(request)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok { // its text has the whole URL, which may hold a secret
			err = inner.Err
		}
		return nil, fmt.Errorf("metrics page of %s: %w", request.URL.Host, err)
	}
	defer func() { _ = response.Body.Close() }() // only read from
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics page of %s: HTTP status %d", request.URL.Host, response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, pageLimit+1))
	if err != nil {
		return nil, fmt.Errorf("metrics page of %s: %w", request.URL.Host, err)
	}
	if len(text) > pageLimit {
		return nil, fmt.Errorf("metrics page of %s: it has more than %d bytes", request.URL.Host, pageLimit)
	}
	return parsePage(string(text)), nil
}

// quantile is the q-quantile of a histogram, by its cumulative counts by upper bound: inside a bucket it is taken to
// rise evenly, and in the last one it is that one's lower bound.
func quantile(q float64, cumulative map[float64]float64) (float64, bool) {
	bounds := slices.Sorted(maps.Keys(cumulative))
	if len(bounds) == 0 {
		return 0, false
	}
	all := cumulative[bounds[len(bounds)-1]]
	if !(all > 0) {
		return 0, false
	}
	want, low, before := q*all, 0.0, 0.0
	for _, bound := range bounds {
		count := cumulative[bound]
		if count >= want {
			if math.IsInf(bound, 1) || count == before {
				return low, true
			}
			return low + (bound-low)*(want-before)/(count-before), true
		}
		low, before = bound, count
	}
	return low, true
}
