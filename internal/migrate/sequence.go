package migrate

import (
	"context"
	"errors"
	"strings"
	"sync"
)

// errSequence is why what still soaks is left alone when another migration of its sequence did not go well.
var errSequence = errors.New("another migration of the same run did not go well")

// A Sequenced is what became of one migration of a sequence.
type Sequenced struct {
	Hosted

	// Begun is false for one whose turn did not come.
	Begun bool
	Err   error
}

// HostInOrder hosts several migrations of one Redis. Each begins when the one before it has every step in
// place, or has only its last soak left; those before go on being hosted meanwhile, so that their bridges and
// soaks go on. When one ends with an error, no further one begins, and those that still soak stop at once and
// can be gone on with. It returns when none has anything left to do; one with Hold, or with Stay, stays as
// long as it would alone. The results are in the order of runs. Price: that of Host for each.
func HostInOrder(ctx context.Context, runs []HostOptions) []Sequenced {
	out := make([]Sequenced, len(runs))
	for i := range out {
		out[i].State = State{Stage: NotStarted, Steps: []StepState{}}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu     sync.Mutex // of failed
		failed bool
		all    sync.WaitGroup
		leave  = make(chan struct{})
		gone   = sync.OnceFunc(func() { close(leave) })
	)
	for i, opts := range runs {
		if !opts.Stay {
			opts.Stay, opts.Leave = true, leave
		}
		through := make(chan struct{})
		pass := sync.OnceFunc(func() { close(through) })
		told := opts.OnEvent
		opts.OnEvent = func(e Event) {
			if told != nil {
				told(e)
			}
			if waits(e) {
				pass()
			}
		}
		out[i].Begun = true
		all.Go(func() {
			defer pass()
			out[i].Hosted, out[i].Err = Host(ctx, opts)
			if errors.Is(out[i].Err, errSequence) {
				out[i].Err = nil // it only waited, and can be gone on with
			}
			if out[i].Err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = true
				gone()
				cancel(errSequence)
			}
		})
		<-through
		mu.Lock()
		stop := failed
		mu.Unlock()
		if stop {
			break
		}
	}
	gone()
	all.Wait()
	return out
}

// waits is true for the event after which a migration only waits: for its last soak, or for a person.
func waits(e Event) bool {
	switch e.Kind {
	case StepStarted:
		return e.Index == e.Of-1 && strings.HasSuffix(e.Step, ".soak")
	case StepDone, StepSkipped:
		return e.Index == e.Of-1
	case UndoStarted, UndoDone, StepFailed:
	}
	return false
}
