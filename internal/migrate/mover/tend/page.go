package tend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// PageOptions say which jobs to list.
type PageOptions struct {
	// States are the states to look at; none means all.
	States []mover.State

	// Filter is what a job must meet.
	Filter Filter

	// Limit is the number of jobs on a page. Default 50, at most 10,000.
	Limit int

	// Scan is the most jobs to look at for one page. Default 10,000.
	Scan int

	// Cursor goes on where a page ended; empty begins.
	Cursor string

	// Data reads the payloads as well.
	Data bool

	// Now is the time that ages are measured from. Default time.Now.
	Now time.Time
}

func (o PageOptions) withDefaults() PageOptions {
	if o.Limit == 0 {
		o.Limit = 50
	}
	if o.Scan == 0 {
		o.Scan = 10000
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	return o
}

func (o PageOptions) validate() error {
	var errs []error
	if o.Limit < 1 || o.Limit > 10000 {
		errs = append(errs, fmt.Errorf("limit: got %d, want 1 to 10000", o.Limit))
	}
	if o.Scan < 1 {
		errs = append(errs, fmt.Errorf("scan: got %d, want 1 or more", o.Scan))
	}
	return errors.Join(errs...)
}

// A Page is some of a queue's jobs.
type Page struct {
	Jobs   []Job `json:"jobs"`
	Looked int64 `json:"looked_at"` // how many jobs were looked at for them

	// Cursor goes on after this page; empty when there is nothing left to look at.
	Cursor string `json:"cursor,omitempty"`
}

// ErrCursor reports a cursor that is not of this queue.
var ErrCursor = errors.New("no cursor of this queue; use the one that the page before ended with, with the same states")

// Page lists jobs: those that run, wait, failed and are done, and of each what runs next, or finished
// last, first. While workers run a job may be missing from
// a page or on two of them. Price: one command for every 200 jobs looked at, and one for each.
func (q *Queue) Page(ctx context.Context, o PageOptions) (Page, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return Page{}, err
	}
	states := o.States
	if len(states) == 0 {
		states = q.States()
	}
	all, err := q.containers(ctx, states)
	if err != nil {
		return Page{}, err
	}
	slices.SortStableFunc(all, func(a, b container) int { return interest(a.state) - interest(b.state) })
	page := Page{Jobs: []Job{}}
	at, rank, err := readCursor(o.Cursor, all)
	if err != nil {
		return Page{}, err
	}
	want := o.Filter.needs()
	want.hash, want.data = true, want.data || o.Data
	for ; at < len(all); at, rank = at+1, 0 {
		for {
			n := min(pageSize, int64(o.Scan)-page.Looked)
			if len(o.Filter.terms) == 0 {
				n = min(n, int64(o.Limit-len(page.Jobs)))
			}
			if n <= 0 {
				page.Cursor = writeCursor(all[at], rank)
				return page, nil
			}
			ids, err := q.window(ctx, all[at], rank, n, true)
			if err != nil {
				return page, err
			}
			jobs, err := q.read(ctx, all[at], ids, want)
			if err != nil {
				return page, err
			}
			for i := range jobs {
				if len(page.Jobs) == o.Limit {
					page.Cursor = writeCursor(all[at], rank)
					return page, nil
				}
				page.Looked++
				rank++
				if j := jobs[i].Job; o.Filter.Match(&j, o.Now) {
					if !o.Data {
						j.Data, j.DataBase64 = nil, nil
					}
					page.Jobs = append(page.Jobs, j)
				}
			}
			if int64(len(ids)) < n {
				break
			}
		}
	}
	return page, nil
}

// interest is the order of states on pages: what happens, what will, what has.
func interest(s mover.State) int {
	return slices.Index([]mover.State{
		mover.Active, mover.Waiting, mover.Paused, mover.Prioritized, Retrying, mover.Delayed, Aggregating, mover.WaitingChildren,
		mover.Failed, mover.Completed,
	}, s)
}

// A cursor is a container and a rank in it: failed@200, waiting/high@0.
func writeCursor(c container, rank int64) string {
	return c.label() + "@" + strconv.FormatInt(rank, 10)
}

// label tells a container from every other of its queue.
func (c container) label() string {
	name := string(c.state)
	if c.band != "" {
		name += "/" + c.band
	}
	if c.group != "" {
		name += "/group/" + c.group
	}
	return name
}

func readCursor(text string, all []container) (at int, rank int64, err error) {
	if text == "" {
		return 0, 0, nil
	}
	cut := strings.LastIndexByte(text, '@')
	if cut < 0 {
		return 0, 0, ErrCursor
	}
	rank, err = strconv.ParseInt(text[cut+1:], 10, 64)
	at = slices.IndexFunc(all, func(c container) bool { return c.label() == text[:cut] })
	if err != nil || rank < 0 || rank > 1<<40 || at < 0 {
		return 0, 0, ErrCursor
	}
	return at, rank, nil
}
