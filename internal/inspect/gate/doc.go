// Package gate judges an application against its budgets: measures and findings in, verdicts out. It is
// pure: it reads no code, asks no Redis and prints nothing, and whoever calls it decides the exit code.
//
// A budget is judged once for each kind of evidence there is: what code predicts, what a running Redis
// shows, what a recorded run counted, what a benchmark measured. Too little evidence is inconclusive,
// never a pass. With a baseline only what is new can fail.
package gate
