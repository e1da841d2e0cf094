package step

import (
	"context"
	"fmt"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
)

// A Hold is the step that looks after paused queues: it ends the pause of one that critical queues depend
// on before they suffer, and of one whose backlog is too large. A pause in Redis has no end of its own, so
// it ends only while somebody runs this step: a queue whose time came while nobody did goes on as soon as
// the migration is resumed.
type Hold struct{ phase *Phase2 }

// A HoldNote is what Hold keeps in the journal.
type HoldNote struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`

	// Ended are the pauses that it ended, and why.
	Ended []EndedPause `json:"ended"`
	Over  bool         `json:"over"`
}

// An EndedPause is a pause that Hold ended.
type EndedPause struct {
	Queue string    `json:"queue"`
	At    time.Time `json:"at"`
	Why   string    `json:"why"`
}

// Name is the step's key in the journal.
func (h *Hold) Name() string { return "phase2.hold" }

// Apply stays until HoldMS is over and every bounded pause has ended. Price: at every look 1 command for each
// queue with a bound and about 3 for each with a backlog limit.
func (h *Hold) Apply(ctx context.Context) error {
	p := h.phase
	every := p.Every
	if every <= 0 {
		every = time.Minute
	}
	var note HoldNote
	if !p.env.Recall(h.Name(), &note) || note.Since.IsZero() {
		note = HoldNote{Since: time.Now().UTC(), Ended: []EndedPause{}}
		note.Until = note.Since.Add(time.Duration(p.plan.HoldMS) * time.Millisecond)
		if err := p.env.Note(ctx, h.Name(), note); err != nil {
			return err
		}
	}
	for {
		next, err := h.look(ctx, &note, time.Now())
		if err != nil {
			return err
		}
		wait := every
		if next > 0 {
			wait = min(wait, next)
		}
		now := time.Now()
		if next == 0 && !now.Before(note.Until) {
			note.Over = true
			return p.env.Note(ctx, h.Name(), note)
		}
		if left := note.Until.Sub(now); left > 0 {
			wait = min(wait, left)
		}
		p.env.Tell(migrate.Progress{
			Step: h.Name(), Part: "hold", Done: int64(now.Sub(note.Since).Seconds()), Total: int64(note.Until.Sub(note.Since).Seconds()), Unit: "seconds",
		})
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// look ends the pauses that have to end now. It returns when the next bounded one has to, 0 when there is
// none left.
func (h *Hold) look(ctx context.Context, note *HoldNote, now time.Time) (time.Duration, error) {
	p := h.phase
	next := time.Duration(0)
	for _, q := range p.plan.Queues {
		if q.MaxPauseMS == 0 && q.BacklogLimit == 0 {
			continue
		}
		paused, err := p.note(ctx, q)
		if err != nil {
			return 0, err
		}
		if paused == nil || paused.was {
			continue // it goes on already, or its pause is somebody else's
		}
		why := ""
		if left := paused.since.Add(q.maxPause()).Sub(now); q.MaxPauseMS > 0 && left <= 0 {
			why = fmt.Sprintf("its pause of %s is over, before %v suffer", q.maxPause(), q.Guards)
		} else if q.MaxPauseMS > 0 && (next == 0 || left < next) {
			next = left
		}
		if why == "" && q.BacklogLimit > 0 && !q.Ours { // the engine bounds our own backlogs
			backlog, err := p.backlog(ctx, q)
			if err != nil {
				return 0, err
			}
			if backlog >= q.BacklogLimit {
				why = fmt.Sprintf("%d jobs wait, and the backlog limit is %d", backlog, q.BacklogLimit)
			}
		}
		if why == "" {
			continue
		}
		if err := p.lift(ctx, q, false); err != nil {
			return 0, err
		}
		note.Ended = append(note.Ended, EndedPause{Queue: q.Label(), At: now.UTC(), Why: why})
		if err := p.env.Note(ctx, h.Name(), note); err != nil {
			return 0, err
		}
	}
	return next, nil
}

// Verify is content when the journal says that it is over.
func (h *Hold) Verify(context.Context) error {
	var note HoldNote
	if h.phase.env.Recall(h.Name(), &note) && note.Over {
		return nil
	}
	return migrate.ErrNotApplied
}

// Rollback has nothing to undo.
func (h *Hold) Rollback(context.Context) error { return nil }
