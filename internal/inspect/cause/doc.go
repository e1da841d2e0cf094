// Package cause says why an application's connections to a Redis fail, from the errors that it logged and
// from what the server shows, with the evidence for and against each cause.
//
// Most texts that reach a log, such as ECONNRESET, fit several causes: then what else was logged, when, and
// what the server says decide, and where they do not, no cause gets more than a low confidence. A limit is
// never blamed while the connections are far below it.
//
// Everything here is arithmetic over what it is given. It opens no connection.
package cause
