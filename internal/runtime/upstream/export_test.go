package upstream

import "time"

// PatientWithServers is o for a test that counts connections by the server's own word: their places stay taken
// for as long as d while the server has not noticed their end, however busy the machine is.
func PatientWithServers(o Options, d time.Duration) Options {
	o.parting = d
	return o
}

// PatientWithReasons is o for a test that wants to know why Open failed, for which it may take as long as d.
func PatientWithReasons(o Options, d time.Duration) Options {
	o.diagnosis = d
	return o
}
