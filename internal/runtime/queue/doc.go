// Package queue runs jobs: it takes them, keeps them in Redis in the layout of asynq, has them run by
// whoever a queue names, tries again after failures, and keeps what failed for good.
//
// A queue is three queues of asynq, one for each priority: "mail:high", "mail" and "mail:low". asynq's
// own tools read and change them. The type of a task is the job's name, its payload the application's
// bytes; what this package adds is in one header, with a schema number.
//
// A job runs at least once. What can make it run twice: a process that dies or loses its Redis while the
// job runs, a lease that an application lets go by, and the end of a shutdown's patience. Nothing that
// was accepted is lost: a job that nobody finishes becomes a dead letter, with the reason.
package queue
