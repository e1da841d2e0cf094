// Package bench measures latency so that the numbers can be believed, and says so when they cannot.
//
// A run is open loop unless it asks for the other: operations start at times that were fixed before the
// first answer came, and a latency counts from the intended start, not from when the program got round to
// it. A server that stalls for 100 ms therefore costs every request that should have started meanwhile,
// as it would cost the application; a closed loop sends nothing during the stall and sees one slow
// request (coordinated omission). A closed loop is offered for comparison and labelled as one.
//
// Every percentile carries an interval, widened for the bursts in which slow answers come, and is absent
// when there are too few samples. How late the program itself was is measured like everything else: a
// result whose own lateness could explain it is no result.
//
//	result, err := bench.Run(ctx, bench.Options{Pace: bench.Pace{Rate: 200, Duration: 10 * time.Second}}, operation)
//	p95, err := result.Latency.Quantile(0.95)
//
// The package knows no Redis and no HTTP: what is run is a function. Scenarios are in package scenario.
package bench
