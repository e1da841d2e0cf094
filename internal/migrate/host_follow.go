package migrate

import (
	"context"
	"time"
)

// deafSweep is how often intents are looked for while there is no bell.
const deafSweep = time.Minute

// firstAgain and lastAgain bound the pauses before the bell is asked for again.
const (
	firstAgain = time.Second
	lastAgain  = time.Minute
)

// follow has the intents read whenever the bell rings, and at every sweep, and interrupts the step under way
// when one asks for that. A Redis that does not answer is no reason to stop: the step under way will
// find out by itself, and the lease tells when it is lost.
func (h *host) follow(ctx context.Context) {
	rings, pause := Rings{}, firstAgain
	var again <-chan time.Time
	subscribe := func() {
		if h.opts.Subscribe == nil {
			return
		}
		var err error
		if rings, err = h.opts.Subscribe(ctx, h.target.IntentChannel()); err != nil {
			again, pause = time.After(pause), min(2*pause, lastAgain)
			return
		}
		again = nil
		h.session.Lease.Poke() // what came before the bell was there
	}
	subscribe()
	sweep := time.NewTimer(time.Hour)
	defer sweep.Stop()
	window := time.NewTimer(time.Hour)
	defer window.Stop()
	defer func() {
		if rings.Close != nil {
			rings.Close()
		}
	}()
	for {
		if _, at := InWindow(h.opts.Windows, time.Now()); !at.IsZero() {
			window.Reset(time.Until(at))
		}
		sweep.Reset(h.sweepAfter(rings.C == nil))
		select {
		case <-ctx.Done():
			return
		case <-window.C:
			h.judge(time.Now())
		case <-again:
			subscribe()
		case <-rings.C:
			h.session.Lease.Poke()
		case <-sweep.C:
			if h.sweeps(rings.C == nil) {
				_ = h.read(ctx)
			}
		}
	}
}

// sweeps is whether intents are looked for besides with the renewals of the lease.
func (h *host) sweeps(deaf bool) bool { return deaf || h.opts.Sweep > 0 }

// sweepAfter is after how long they are looked for next.
func (h *host) sweepAfter(deaf bool) time.Duration {
	switch {
	case h.opts.Sweep > 0:
		return h.opts.Sweep
	case deaf:
		return deafSweep
	}
	return time.Hour
}

// read reads the intents. Price: 1 command.
func (h *host) read(ctx context.Context) error {
	h.reading.Lock()
	defer h.reading.Unlock()
	w, err := ReadWishes(ctx, h.opts.Client, h.target, time.Now())
	if err != nil {
		return err
	}
	h.heard(w)
	return nil
}

// attend is the carrier of the lease: with the renewal it writes the pulse and reads the intents.
func (h *host) attend(ctx context.Context, ttl time.Duration) (bool, error) {
	h.reading.Lock()
	defer h.reading.Unlock()
	w, kept, err := attend(ctx, h.opts.Client, h.target, h.session.Lease, ttl, h.says())
	if err == nil && kept {
		h.heard(w)
	}
	return kept, err
}

// heard lets w take effect.
func (h *host) heard(w Wishes) {
	now := time.Now()
	h.mu.Lock()
	h.wishes = w
	h.mu.Unlock()
	if i := w.Wants(now, IntentRate); i != nil && i.Rate != h.pace.Rate() {
		h.pace.SetRate(i.Rate)
		h.session.Lease.Poke() // the pulse tells the rate
	}
	h.judge(now)
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// judge interrupts the step under way when an intent, or the end of the window, asks for it. A soak goes
// on outside the window: it changes nothing, and the next step is asked again when it starts.
func (h *host) judge(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stop == nil {
		return
	}
	switch open, _ := InWindow(h.opts.Windows, now); {
	case h.wishes.Wants(now, IntentAbort, IntentRollback) != nil:
		h.stop(errWayBack)
	case h.wishes.Wants(now, IntentPause) != nil:
		h.stop(ErrPaused)
	case !open && h.step != "" && KindOf(h.step) != ForSoak:
		h.stop(ErrWindow)
	}
}

// say changes what the host tells of itself; an empty condition means that a step runs.
func (h *host) say(c Condition, why string) {
	h.mu.Lock()
	changed := h.pulse.Condition != c || h.pulse.Why != why || h.pulse.At.IsZero()
	h.pulse.Condition, h.pulse.Why = c, why
	h.mu.Unlock()
	if !changed {
		return
	}
	if p := h.says(); h.opts.OnPulse != nil {
		h.opts.OnPulse(p)
	}
	h.session.Lease.Poke()
}

// says is the pulse as it is now.
func (h *host) says() Pulse {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pulse.At, h.pulse.Rate, h.pulse.Progress = time.Now().UTC(), h.pace.Rate(), h.progress
	return h.pulse
}

// throttled is called when the reason to wait changes; it is empty when there is none any more.
func (h *host) throttled(why string) {
	h.mu.Lock()
	waits := h.pulse.Condition == "" || h.pulse.Condition == Throttled
	h.mu.Unlock()
	switch {
	case !waits: // for something else
	case why == "":
		h.say("", "")
	default:
		h.say(Throttled, why)
	}
}

// tell passes progress on.
func (h *host) tell(p Progress) {
	h.mu.Lock()
	h.progress = &p
	h.mu.Unlock()
	if h.opts.OnProgress != nil {
		h.opts.OnProgress(p)
	}
}

func (h *host) event(e Event) {
	h.mu.Lock()
	h.progress, h.step = nil, ""
	if e.Kind == StepStarted {
		h.step = e.Step
	}
	h.mu.Unlock()
	if e.Kind == StepStarted || e.Kind == UndoStarted {
		h.session.Lease.SetResting(e.Kind == StepStarted && KindOf(e.Step) == ForSoak)
	}
	h.judge(time.Now())
	if h.opts.OnEvent != nil {
		h.opts.OnEvent(e)
	}
}
