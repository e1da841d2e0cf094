// Package demo runs the whole journey on an embedded Redis: it loads keys that a real Bull 4.16 left
// behind, attaches a simulated application, audits it, moves its queues to the BullMQ layout while a
// simulated producer goes on adding, verifies, rolls back, and proves that the keys are what they
// were. It needs no network and nothing installed.
//
// The keys are real, the clients are not: they send what was measured of real ones, and are called
// simulated wherever they are shown.
package demo
