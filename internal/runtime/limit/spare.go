package limit

import (
	"errors"
	"slices"
)

// errSpared says that Redis is not asked because nothing is to be spent on it now.
var errSpared = errors.New("redis is not asked, to spare commands")

// DecideHere has checks decided in this process while on is true, with a share of the limit as OnError Local
// has it, and without a command. Rules whose OnError is Closed, which guard what must not be exceeded, go
// on asking Redis. It may be called at any time and sends nothing.
func (l *Limiter) DecideHere(on bool) { l.spared.Store(on) }

// spares is whether items are to be decided without Redis.
func (l *Limiter) spares(items []*item) bool {
	return l.spared.Load() && !slices.ContainsFunc(items, func(it *item) bool { return it.rule.OnError == Closed })
}

// without is what decides an item that Redis did not answer: counting here where it was not asked at all.
func (it *item) without(err error) OnError {
	if errors.Is(err, errSpared) {
		return Local
	}
	return it.rule.OnError
}
