// Package cron fires schedules: it works out when each is due, and hands every due tick to Enqueue
// once for the whole fleet, however many replicas run.
//
// # When a schedule is due
//
// A schedule has five cron fields (minute, hour, day of month, month, day of week), or Every. Fields
// take *, ?, lists, ranges, steps, and names of months and days; 0 and 7 are both Sunday. When neither
// day field is a *, a day that matches one of them is enough, as in cron; "*/2" counts as a
// restriction. @hourly, @daily, @weekly, @monthly and @yearly stand for their fields. Every counts from
// the Unix epoch, so that all replicas agree without asking, and knows no daylight saving.
//
// Where the clocks of a zone are changed, a schedule does what cron (Vixie, cronie) does:
//
//   - One with fixed times, that is neither the minute nor the hour begins with *, keeps its number of
//     runs a day. A time that is skipped runs once, at the instant of the change: 02:30 runs at 03:00,
//     when 02:00 became 03:00. Times that fall on one instant that way are one tick. A time that comes
//     twice runs the first time only.
//   - One whose minute or hour begins with * follows the clock as it goes: what is skipped is not run,
//     and what comes twice is run twice, so "*/15 * * * *" keeps its 15 minutes through both changes.
//
// # One firing
//
// Each tick has an id, cron:NAME:UNIXTIME, the same in every replica. All of them enqueue it under that
// id and Redis takes the first; the others are told ErrDuplicate. That holds while the id is
// remembered, so Enqueue keeps the finished job for at least Tick.Retain. A replica that comes back
// after longer than Options.Grace reads the marks that others left before it runs anything late.
//
// # What is missed
//
// A tick that could not be enqueued within Options.Grace was missed: no replica ran, Redis was down, or
// the clock was set forward. Schedule.Misfire says what is made up for. A clock that is set back does
// not repeat what was fired.
//
// # What it costs
//
// There is no polling: a replica sleeps until the next tick, and looks at the clock every 10 s, which
// asks nobody. In billed commands, besides what Enqueue does:
//
//	start             1            HGETALL
//	sweep             1 each 6 h   HMGET: 120 in a 30-day month for each replica
//	a change          6 or 7       HGETALL and a script of 4 or 5; each replica then reads once: 1
//	a tick            0 or 1       HSET: Misfire "all" each tick, "once" at most one in 5 minutes for a schedule,
//	                               "skip" none, for each replica that fires; schedules due together share one
//	something missed  1, then 2-3  HGETALL; and where it is made up for, a script instead of the HSET
package cron
