package migrate

import (
	"context"
	"time"
)

// pulseEvery is how often a pulse is written that has not changed.
const pulseEvery = time.Minute

// firstAgain and lastAgain bound the pauses before the bell is asked for again.
const (
	firstAgain = time.Second
	lastAgain  = time.Minute
)

// follow reads the intents whenever the bell rings, and at every sweep, and interrupts the step under way
// when one asks for that. A Redis that does not answer is no reason to stop: the step under way will
// find out by itself, and the lease tells when it is lost.
func (h *host) follow(ctx context.Context) {
	sweep := time.NewTicker(h.opts.Sweep)
	defer sweep.Stop()
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
		_ = h.read(ctx) // what came before the bell was there
	}
	subscribe()
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
		select {
		case <-ctx.Done():
			return
		case <-window.C:
			h.judge(time.Now())
			continue
		case <-again:
			subscribe()
			continue
		case <-rings.C:
		case <-sweep.C:
		}
		_ = h.read(ctx)
		h.judge(time.Now())
		h.refresh(ctx)
	}
}

// read reads the intents and lets the rate take effect.
func (h *host) read(ctx context.Context) error {
	w, err := ReadWishes(ctx, h.opts.Client, h.target, time.Now())
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.wishes = w
	h.mu.Unlock()
	if i, ok := w.Intents[IntentRate]; ok && i.Rate != h.pace.Rate() {
		h.pace.SetRate(i.Rate)
	}
	select {
	case h.changed <- struct{}{}:
	default:
	}
	return nil
}

// judge interrupts the step under way when an intent, or the end of the window, asks for it. A soak goes
// on outside the window: it changes nothing, and the next step is asked again when it starts.
func (h *host) judge(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stop == nil {
		return
	}
	_, abort := h.wishes.Intents[IntentAbort]
	_, rollback := h.wishes.Intents[IntentRollback]
	_, paused := h.wishes.Intents[IntentPause]
	switch open, _ := InWindow(h.opts.Windows, now); {
	case abort || rollback:
		h.stop(errWayBack)
	case paused:
		h.stop(ErrPaused)
	case !open && h.step != "" && KindOf(h.step) != ForSoak:
		h.stop(ErrWindow)
	}
}

// say changes what the host tells of itself; an empty condition means that a step runs.
func (h *host) say(ctx context.Context, c Condition, why string) {
	h.mu.Lock()
	h.pulse.Condition, h.pulse.Why = c, why
	h.mu.Unlock()
	h.beat(ctx)
}

// throttled is called when the reason to wait changes; it is empty when there is none any more.
func (h *host) throttled(ctx context.Context, why string) {
	h.mu.Lock()
	waits := h.pulse.Condition == "" || h.pulse.Condition == Throttled
	h.mu.Unlock()
	switch {
	case !waits: // for something else
	case why == "":
		h.say(ctx, "", "")
	default:
		h.say(ctx, Throttled, why)
	}
}

// refresh writes the pulse when it has become old.
func (h *host) refresh(ctx context.Context) {
	h.mu.Lock()
	old := time.Since(h.beaten) >= pulseEvery
	h.mu.Unlock()
	if old {
		h.beat(ctx)
	}
}

// beat writes the pulse. That it cannot be written is nothing that anybody could act on.
func (h *host) beat(ctx context.Context) {
	h.mu.Lock()
	h.pulse.At, h.pulse.Rate, h.pulse.Progress = time.Now().UTC(), h.pace.Rate(), h.progress
	p := h.pulse
	h.beaten = time.Now()
	h.mu.Unlock()
	if h.opts.OnPulse != nil {
		h.opts.OnPulse(p)
	}
	_ = beat(ctx, h.opts.Client, h.target, h.session.Lease, &p)
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
	h.judge(time.Now())
	if h.opts.OnEvent != nil {
		h.opts.OnEvent(e)
	}
}
