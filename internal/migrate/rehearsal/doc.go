// Package rehearsal walks migrations there and back on an embedded Redis that holds a copy of real keys,
// before anybody does it on the real one.
//
// Read copies a bounded number of keys: the queues that the migrations are about with jobs of every
// state, and of all other keys some of every kind. It sends only commands that read, a page at a time, at
// most so many keys a second. A Stage is the embedded Redis, or two where phase 1 goes from one to another.
// Rehearse applies the steps of each migration there, verifies them, rolls them back, and compares every
// key with what it was; what differs is explained, or counts against the migration.
//
// The steps are those that run on the real Redis. What is different on the stage is said in the result:
// nothing soaks for a day, no worker runs, and the journal is in memory.
package rehearsal
