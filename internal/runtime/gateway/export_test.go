package gateway

import "time"

// Patient is o for a test that wants answers however busy the machine is: requests may wait as long as d for the
// Redis.
func Patient(o Options, d time.Duration) Options {
	o.Timeout, o.patient = d, true
	return o
}
