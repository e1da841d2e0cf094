// Package connections answers who holds connections to a Redis: which library, role, queue and process,
// how near the server's limit is, and what each phase of a migration would leave.
//
// It only reads. One audit sends INFO, CLIENT LIST and CLIENT ID, and PUBSUB CHANNELS when somebody is
// subscribed: three or four commands, whatever the number of connections. Options.Deep adds one HGET
// for each BullMQ queue. Every connection carries the reason for its attribution, and where only the
// numbers of a process force it, it says so.
package connections
