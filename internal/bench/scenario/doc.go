// Package scenario is what is benchmarked: the engines of this program the way an application uses them,
// the gateway over HTTP, plain commands over TCP and over REST, what the application did before, its own
// HTTP endpoints, and a recorded trace.
//
// A scenario makes its own keys, under a prefix of its own that ends with a random part, with a time to
// live where Redis has one for them, and deletes them at the end.
package scenario
