// Package mover moves the jobs of a queue from the layout of one library to that of another, while
// producers and workers are running, and back.
//
// Every layout has a reader and a writer. The reader turns the hash of a job into a Job that knows no
// library; the writer says what that job's hash is in its own layout and what it cannot express. The
// difference between the two hashes is the edit; the payload is never read and never copied.
//
// What writes are Lua scripts, one for a chunk of jobs. A script first checks everything, the lease
// included, and writes nothing: that each id is still where it was seen, that the fields which
// informed its edit have not changed, that nobody holds its lock. Then it renames the hashes, which
// is also the check that the target has no such job, applies the edits, moves the ids, and keeps the
// ledger: how many jobs were moved, and of those that lose something the original fields. So a crash
// at any instant leaves every job whole on one side, and running again goes on.
//
// The scripts name the containers in KEYS; the keys of the jobs are built from the prefix, as both
// libraries do in theirs, since which jobs are next is only known inside. On a cluster all of a
// queue's keys, the ledger and the fence must share a hash tag.
package mover
