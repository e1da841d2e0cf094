// Package commands answers who spends commands on a Redis, what it costs in a month, and how much of it
// is queue workers asking for jobs that are not there.
//
// It reads INFO commandstats twice and takes the difference; it never resets a counter and never runs
// MONITOR. The server counts what a script runs as well as the script, so the difference is top-level
// plus in-script commands, and total_commands_processed is the same sum (checked on Redis 7.0). What
// came over the wire is told apart by the rules on Split.
//
// One audit costs what two audits of connections cost, before and after the window: six to eight
// commands. Options.Deep adds one ZCARD per queue.
package commands
