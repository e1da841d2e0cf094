package limit

// Asleep makes l believe that the machine was asleep for so many microseconds.
func (l *Limiter) Asleep(us int64) { l.clock.extra.Add(us) }
