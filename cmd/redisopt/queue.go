package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// queueCommand is the group of commands about queues as they are.
func (a *app) queueCommand() *cobra.Command {
	return a.group("queue", "Queues as they are, in any layout", `  redisopt queue ls
  redisopt queue show mail`, a.queueLsCommand(), a.queueShowCommand())
}

// libraryOf is how a queue's library is shown: its own note of its version where it left one.
func libraryOf(q mover.QueueSummary) string {
	if name, version, ok := strings.Cut(q.Version, ":"); ok {
		return name + " " + version
	}
	return fmt.Sprintf("%s %d", q.Endpoint.Layout, q.Endpoint.Major)
}

// waitedFor is the age of the job that is next in line.
func waitedFor(ms int64) string {
	if ms < 0 {
		return "-"
	}
	return roughly(time.Duration(ms) * time.Millisecond)
}

// roughly is a duration in its two largest units: 3h33m, 12d4h.
func roughly(d time.Duration) string {
	switch day := 24 * time.Hour; {
	case d >= day:
		return strings.TrimSuffix(fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour), "0h")
	case d >= time.Hour:
		return strings.TrimSuffix(fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute), "0m")
	case d >= time.Minute:
		return strings.TrimSuffix(fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second), "0s")
	}
	return shortDuration(d)
}

// searchHint tells how to go on after a search that gave up.
func searchHint(err error) error {
	if errors.Is(err, mover.ErrTooManyKeys) {
		return withHint(err, "redisopt queue ls --prefix bull, or a larger --max-keys")
	}
	return err
}

// named picks the queues called name, whatever their prefix.
func named(found []mover.Endpoint, name string) []mover.Endpoint {
	return slices.DeleteFunc(slices.Clone(found), func(e mover.Endpoint) bool { return e.Queue != name })
}
