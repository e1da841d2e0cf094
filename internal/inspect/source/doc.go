// Package source reads an application's code and predicts what it will cost a Redis, before anything
// is deployed: connections per process and queue, idle commands a month, and findings with the exact
// line and change. It needs no Redis, runs nothing of the application and never changes a file.
//
// TypeScript and JavaScript are followed from the entry points across files: the top level of every
// module is played through with the values that the code tells and unknowns for the rest, so that
// loops, factories and shared instances count as often as they run. What cannot be told becomes a
// range with its reason, never a guess. Go is read for go-redis and asynq.
package source
