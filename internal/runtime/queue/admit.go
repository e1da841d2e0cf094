package queue

// Admitted says that Options.Admit may answer otherwise than before for the queues by these names; without
// names for all. It sends nothing by itself.
func (e *Engine) Admitted(queues ...string) {
	var bands []string
	for _, name := range queues {
		if l := e.lines[name]; l != nil {
			bands = append(bands, l.bands...)
		}
	}
	if len(queues) == 0 || len(bands) > 0 {
		e.governor.Admitted(bands...)
	}
}

// SlowSweeps makes the idle sweep factor times as rare; 1 is as configured. What only a sweep finds is
// found as much later: jobs whose worker is gone, and jobs that nobody announced.
func (e *Engine) SlowSweeps(factor int) { e.governor.SlowSweeps(factor) }
