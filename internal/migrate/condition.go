package migrate

// A Condition is where a migration stands, as people are told: derived from the journal, from who holds
// the lease, and from what the host says of itself.
type Condition string

// The conditions.
const (
	Planned         Condition = "planned"          // nothing was changed yet
	Preflight       Condition = "preflight"        // it is being checked whether it may begin
	Shadow          Condition = "shadow"           // the new way runs beside the old one and is compared
	Ramping         Condition = "ramping"          // work is being taken over, or moved
	Soaking         Condition = "soaking"          // evidence is being gathered
	OnHold          Condition = "holding"          // it waits for a person before it completes
	Throttled       Condition = "throttled"        // it waits for the Redis to have room
	Paused          Condition = "paused"           // somebody asked it to wait, or its window is closed
	Verifying       Condition = "verifying"        // source and target are being compared
	Verified        Condition = "verified"         // every step is in place and was verified
	Completed       Condition = "completed"        // and the way back was given up
	RollingBack     Condition = "rolling_back"     // it is being undone
	WasRolledBack   Condition = "rolled_back"      // everything was undone
	FailedResumable Condition = "failed_resumable" // it stopped half-way; it can go on, or go back
	Unreadable      Condition = "unreadable"       // its journal cannot be read, so nothing is known of it
)

// Conditions are all conditions, in the order in which a migration may pass through them.
func Conditions() []Condition {
	return []Condition{
		Planned, Preflight, Shadow, Ramping, Soaking, OnHold, Throttled, Paused, Verifying, Verified, Completed,
		RollingBack, WasRolledBack, FailedResumable, Unreadable,
	}
}

// Condition tells where s stands. It is pure.
func (s Standing) Condition() Condition {
	if s.Err != nil {
		return Unreadable
	}
	switch s.State.Stage {
	case NotStarted:
		return Planned
	case RolledBack:
		return WasRolledBack
	case Finished:
		return Completed
	case Forward, Backward, Complete, Finishing:
	}
	if s.Holder == nil {
		return s.unattended()
	}
	if s.Pulse != nil { // what the host knows and the journal does not
		switch s.Pulse.Condition { //nolint:exhaustive // the others follow from the journal
		case OnHold, Throttled, Paused:
			return s.Pulse.Condition
		}
	}
	switch s.State.Stage { //nolint:exhaustive // the others have returned
	case Backward:
		return RollingBack
	case Complete:
		return Verified
	case Finishing:
		return Completed
	}
	return s.State.doing()
}

// unattended is where a migration stands that nobody works on.
func (s Standing) unattended() Condition {
	switch {
	case s.State.Stage == Complete:
		return Verified
	case s.State.Stop == StopPaused:
		return Paused
	case s.State.Stage == Forward && !s.State.begun() && s.State.Stop == "":
		return Planned
	}
	return FailedResumable
}

// soaks is true when the step under way, or the one that comes next, only waits for evidence.
func (s *State) soaks() bool {
	for _, st := range s.Steps {
		if st.Mark != Applied {
			return KindOf(st.Name) == ForSoak
		}
	}
	return false
}

// begun is true when any step of this run was.
func (s *State) begun() bool {
	for _, st := range s.Steps {
		if st.Mark != Pending {
			return true
		}
	}
	return false
}

// doing is what the step under way is for, or the one that comes next.
func (s *State) doing() Condition {
	if !s.begun() {
		return Planned
	}
	for _, st := range s.Steps {
		if st.Mark == Applied {
			continue
		}
		switch KindOf(st.Name) {
		case ForPreflight:
			return Preflight
		case ForShadow:
			return Shadow
		case ForSoak:
			return Soaking
		case ForVerify:
			return Verifying
		case ForRamp:
			return Ramping
		}
	}
	return Verifying
}
