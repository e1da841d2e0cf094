package queue

import (
	"context"
	"encoding/json"
	"sync"
	"time"
)

// progressEvery is the shortest time between two writes of one job's progress.
const progressEvery = time.Second

// A progressing is the progress of one attempt: what was told last is written, at most once a second.
type progressing struct {
	e *Engine
	a *attempt

	mu      sync.Mutex
	last    time.Time       // of the last write
	next    json.RawMessage // to write
	writing bool            // somebody will
}

// reporter takes the progress of an attempt. It does not wait for Redis.
func (e *Engine) reporter(a *attempt) func(json.RawMessage) error {
	p := &progressing{e: e, a: a}
	return func(progress json.RawMessage) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.next = append(json.RawMessage(nil), progress...)
		if !p.writing {
			p.writing = true
			e.aside(p.write)
		}
		return nil
	}
}

// write writes until there is nothing to write or the attempt is over.
func (p *progressing) write(ctx context.Context) {
	for {
		p.mu.Lock()
		wait := time.Until(p.last.Add(progressEvery))
		p.mu.Unlock()
		if wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-p.a.over:
			case <-timer.C:
			}
			timer.Stop()
		}
		p.mu.Lock()
		progress := p.next
		p.next = nil
		if progress == nil || ctx.Err() != nil || p.e.witness.done(p.a) {
			p.writing = false
			p.mu.Unlock()
			return
		}
		p.last = time.Now()
		p.mu.Unlock()
		if err := p.e.keep(ctx, p.a, "progress", progress); err != nil {
			p.e.opts.Notice(err)
		}
	}
}

// keep writes a field of a job that is there: its progress, or what it has brought. It costs 1 script of 2
// commands.
func (e *Engine) keep(ctx context.Context, a *attempt, field string, value []byte) error {
	ctx, cancel := context.WithTimeout(ctx, e.opts.CommandTimeout)
	defer cancel()
	n, err := e.scripts.keep.Run(ctx, e.opts.Client, []string{taskKey(a.band, a.id)}, field, value).Int64()
	if err != nil {
		return e.explain(a.line.def.Name, a.id, err)
	}
	e.opts.InScript("evalsha", 1+n)
	return nil
}
