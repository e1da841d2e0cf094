package record

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ParseCommandStats is the number of calls by command from the reply of INFO commandstats.
func ParseCommandStats(info string) map[string]int64 {
	calls := map[string]int64{}
	for line := range strings.Lines(info) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		command, found := strings.CutPrefix(name, "cmdstat_")
		_, count, has := strings.Cut(rest, "calls=")
		if !ok || !found || !has {
			continue
		}
		count, _, _ = strings.Cut(count, ",")
		if n, err := strconv.ParseInt(count, 10, 64); err == nil && n >= 0 {
			calls[command] = n
		}
	}
	return calls
}

// Served tells the recorder what the Redis behind it counted before and after, where that does not tell
// scripts apart: what it ran beyond what was sent is what scripts ran, all together. Should it have served
// others meanwhile, their commands are in that, too. Commands that open and name connections are left out,
// since whoever asked for the counts sent some as well.
func (r *Recorder) Served(before, after map[string]int64) {
	r.books.mu.Lock()
	defer r.books.mu.Unlock()
	sent := map[string]int64{}
	for _, c := range r.books.commands.all() {
		sent[c.Command] = c.Sent
	}
	r.books.served = new(int64)
	for command, n := range after {
		if n -= before[command] + sent[command]; n > 0 && !connecting(command) {
			*r.books.served += n
		}
	}
}

// connecting is whether command has to do with a connection, and is not one that a script would run.
func connecting(command string) bool {
	verb, _, _ := strings.Cut(command, "|")
	return slices.Contains([]string{"info", "hello", "auth", "select", "client", "ping", "quit", "command", "config", "evalsha", "eval", "fcall"}, verb)
}

// addServed adds what all scripts ran together to the total.
func (r *Report) addServed(n int64) {
	r.Redis.InScript = "total"
	r.Total.InScript += n
	r.Total.Work += n
	if r.Provider.BillsInScript {
		r.Total.Billed += n
		r.Total.BilledWork += n
	}
	if n > 0 {
		r.Missing = append(r.Missing, fmt.Sprintf("which script ran which of the %d commands in scripts, and whether all were of this run: the Redis counts them together, those of its other clients too", n))
	}
}
