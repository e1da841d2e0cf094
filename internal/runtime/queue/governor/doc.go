// Package governor makes asynq cost almost nothing while there is nothing to do. It is a hook on the
// client that asynq is given: what asynq asks again and again, and what can only have one answer, is
// answered here; everything else goes to the Redis as it is. asynq itself is not changed.
//
// Whether there can be work is known from four sources: what passes through the hook, the bell (pushes
// of the server, or messages of the other replicas), the times at which delayed jobs are due, and a slow
// sweep over all queues in one command, which bounds how long anything else can go unnoticed. What the
// governor does not understand it lets through, and believes that the queue has work: mistakes cost
// commands and not jobs.
package governor
