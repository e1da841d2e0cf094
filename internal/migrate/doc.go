// Package migrate takes an application from one way of using its Redis to another, step by step, and
// back again.
//
// A Phase is one of the four named moves for one Target; its Outline is what an operator reads before it
// begins. A Step is one reversible change. An Engine brings the steps of a phase into place through a
// journal, in which every change is announced before it is made, so that a crash at any instant is
// resumed, either way. A Lease keeps a second operator out. A Session opens all of this for one migration.
//
// What a phase has to bring, and where the rest comes from:
//
//	Target          the queue, or neither prefix nor queue for the whole database
//	Options         JSON without credentials; with the steps' names it is the plan
//	Steps           named phaseN.word or phaseN.word-more; the word says the state (KindOf):
//	                preflight, shadow, soak, hold, verify, and anything else is "ramping"
//	Plan            an Outline, without a single write; what blocks is a Problem
//	Finisher        optional: what complete gives up, and giving it up
//	Reverser        optional: an Outline of the way back
//	Keeper          optional: what goes on while everything is in place, until complete
//	Env             given: fence, checkpoints, pace, watch, bell, progress
//	NewSoak         the step that waits for evidence; gates are data (Gate)
//	step.Open       makes the phase again from its Options; each phase has one line in its table:
//	                func(client, options json.RawMessage, env migrate.Env) (migrate.Phase, error)
//
// A step is interrupted by the end of its context, whose cause says why (paused, the lease lost, a
// signal, the way back asked for): it stops at its next safe point and returns the cause. It does not
// look for pauses or roll back by itself. A step that waits or works in portions asks Env.Pace before
// each; one that judges returns a *GateError, and whoever hosts the phase decides what follows.
//
// What the steps of a phase are is the business of package step; what they do to a queue is that of
// package mover.
package migrate
