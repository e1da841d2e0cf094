// Package upstash reads the Upstash Developer API: what a database is allowed, and what Upstash itself
// counted. That costs no command, and it is the count that the bill is made of.
//
// The client only reads. It never asks for a database's credentials, and the API key is in no error, no
// log and no redirect.
package upstash
