// Package child runs jobs with a command: one process for each job.
//
// The process gets the job as one JSON object on its standard input, see Input, and the variables
// REDISOPT_QUEUE, REDISOPT_JOB_ID, REDISOPT_JOB_NAME, REDISOPT_ATTEMPT, REDISOPT_ATTEMPTS,
// REDISOPT_DEADLINE (RFC 3339, UTC) and, if the producer gave them, TRACEPARENT and TRACESTATE. Of this
// process's environment it gets what Options.Pass names. No shell is involved.
//
// What it writes to its standard output is the result, up to Options.MaxResult; the end of its standard
// error is the reason when it fails. Its exit code says what becomes of the job:
//
//	0                  done
//	65 (EX_DATAERR)    a dead letter
//	75 (EX_TEMPFAIL)   tried again after Options.RetryAfter, without counting an attempt
//	anything else      a failed attempt; so is a signal
//
// On Unix the process leads a process group of its own. When the job's time is up or it is cancelled, the
// group gets SIGTERM, and after Options.Grace SIGKILL; what is left of the group when the leader has
// ended is killed too. A process that leaves the group is not followed. On Linux the leader is killed when
// this process dies; its children are not, and the job is tried again then, so they may meet.
//
// Limits are set by this program itself: it starts a copy of itself that sets them and then becomes the
// command, so that they hold from the command's first instruction and for all that it starts. That needs
// Staged and Stage in main. Linux and FreeBSD enforce all four; macOS has no limit of memory, and it is
// refused there. Other systems have none. On Windows there is no process group either: at the end of its
// time the process is killed at once, and what it started is left alone.
package child
