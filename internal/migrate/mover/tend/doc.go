// Package tend looks after the jobs of one queue where they are: it lists, adds, retries, deletes,
// pauses, resumes, drains and exports them in the layout of the library that owns the queue, so that
// the library's own workers, producers and dashboards see what they would have done themselves.
//
// Reading is plain commands: nothing is written, and no script runs, until something shall change. A
// change has two halves. Select reads which jobs are meant and remembers them, so that the number that
// is asked about is the number that is acted on. Act gives them to a script, at most fifty at a time,
// which looks at each again: still in that container, the fields that made the filter match unchanged,
// not locked by a worker, no part of a flow that would break. Then it writes what the library would
// write, in an order in which a refused command leaves a job in both places rather than in none. A
// script is one transaction to the server's log, so a crash leaves a chunk done or not begun; run
// again, the rest is done and what was done is no longer found.
//
// asynq's layout is read and written as version 0.26 does. Queues q:high and q:low are shown as bands
// of q where q is asynq's.
package tend
