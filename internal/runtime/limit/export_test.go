package limit

// Wall moves the wall clock that l reads by d microseconds, as if the machine had been asleep.
func (l *Limiter) Asleep(us int64) { l.clock.extra.Add(us) }
