// Package record counts what the clients of a Redis send, by who sent it and for which test.
//
// A [Recorder] listens on loopback, carries every connection to the Redis behind it byte for byte, and
// books each command when its reply is there: by source, by test, by client, by command, by prefix of
// the key and by script, with what runs inside scripts where the Redis behind it says so. Polling that
// found nothing and what only sets a connection up are told from work.
//
// A source or a test names itself by a mark, a command that any library can send and that the recorder
// answers itself, so that it costs nothing: see [Mark].
//
// What is kept is bounded whatever the clients send; what does not fit is booked as other.
package record
