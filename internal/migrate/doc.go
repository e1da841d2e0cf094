// Package migrate takes an application from one way of using its Redis to another, step by step, and
// back again.
//
// A Step is one reversible change. An Engine brings a list of them into place through a journal, in
// which every change is announced before it is made, so that a crash at any instant is resumed, either
// way. A Lease keeps a second operator out. A Session opens all of this for one migration.
//
// What the steps of a phase are is the business of package step; what they do to a queue is that of
// package mover.
package migrate
