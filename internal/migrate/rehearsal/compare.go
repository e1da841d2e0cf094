package rehearsal

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
)

// countJobs is how many jobs of any layout are among keys: Bull and BullMQ write the time it was added into
// the hash of every job and into no other one, and asynq a message.
func countJobs(keys []capture.Key) int {
	n := 0
	for _, k := range keys {
		fields, ok := k.Value.(map[string]string)
		if ok && (fields["timestamp"] != "" || fields["msg"] != "") {
			n++
		}
	}
	return n
}

// A reason is what is known of why keys may differ after the way back.
type reason struct {
	losses []migrate.Loss
	took   time.Duration // since before
	target []string      // what the keys of the target begin with
}

// explain divides the differences between two dumps into those that must be and those that must not.
func explain(was, is []capture.Key, r reason) Comparison {
	out := Comparison{Keys: len(was), Explained: []Explanation{}, Unexplained: []Difference{}}
	kinds := map[string]*Explanation{}
	differs := map[string]bool{}
	note := func(kind, key string) {
		differs[key] = true
		x := kinds[kind]
		if x == nil {
			x = &Explanation{Kind: kind, Why: why(kind), Keys: []string{}}
			kinds[kind] = x
		}
		x.Of++
		if len(x.Keys) < maxTold {
			x.Keys = append(x.Keys, key)
		}
	}
	all := was
	lives := map[string]time.Duration{}
	for _, k := range was {
		lives[k.Name] = k.TTL
	}
	was, is, requeued := withoutRequeued(was, is)
	for _, key := range requeued {
		note("active", key)
	}
	for _, d := range capture.Compare(was, is) {
		if kind := r.kindOf(d, lives[d.Key]); kind != "" {
			note(kind, d.Key)
			continue
		}
		differs[d.Key] = true
		out.Differing++
		if len(out.Unexplained) < maxTold {
			out.Unexplained = append(out.Unexplained, Difference{Key: d.Key, Field: d.Field, Was: fingerprint(d.Was), Is: fingerprint(d.Is)})
		}
	}
	for _, k := range all {
		if !differs[k.Name] {
			out.Identical++
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		out.Explained = append(out.Explained, *kinds[kind])
	}
	return out
}

// fingerprint is a value as it may be shown: its length and the beginning of its digest.
func fingerprint(value string) string {
	if value == "" {
		return "nothing"
	}
	sum := sha256.Sum256([]byte(value))
	return fmt.Sprintf("%d bytes #%s", len(value), hex.EncodeToString(sum[:4]))
}

// withoutRequeued takes out of both dumps the jobs that were active without a worker and wait now to run
// again, once each, in wait or in paused. It names the keys that differ by that. A job that is in neither
// list stays a difference.
func withoutRequeued(was, is []capture.Key) (before, after []capture.Key, changed []string) {
	before, after = slices.Clone(was), slices.Clone(is)
	at := map[string]int{}
	for i, k := range after {
		at[k.Name] = i
	}
	for i, k := range before {
		queue, ok := strings.CutSuffix(k.Name, ":active")
		if _, still := at[k.Name]; !ok || k.Type != "list" || still {
			continue
		}
		ids, _ := k.Value.([]string)
		lost := []string{}
		for _, id := range ids {
			if key := withoutOnce(after, at, []string{queue + ":wait", queue + ":paused", queue + ":pending"}, id); key != "" {
				changed = append(changed, key)
			} else {
				lost = append(lost, id)
			}
		}
		before[i].Value = lost
		changed = append(changed, k.Name)
	}
	gone := func(k capture.Key) bool { return k.Type == "list" && empty(k.Value) }
	slices.Sort(changed)
	return slices.DeleteFunc(before, gone), slices.DeleteFunc(after, gone), slices.Compact(changed)
}

// withoutOnce takes id out of the first of lists that has it, and says which that was.
func withoutOnce(keys []capture.Key, at map[string]int, lists []string, id string) string {
	for _, list := range lists {
		i, ok := at[list]
		if !ok {
			continue
		}
		ids, _ := keys[i].Value.([]string)
		if n := slices.Index(ids, id); n >= 0 {
			keys[i].Value = slices.Delete(slices.Clone(ids), n, n+1)
			return list
		}
	}
	return ""
}

// kindOf says why something may differ, empty when it may not. lived is how long the key had to live.
func (r reason) kindOf(d capture.Difference, lived time.Duration) string {
	if (d.Is == "" || d.Field == "ttl") && lived > 0 && lived <= r.took+2*time.Second {
		return "ended"
	}
	parts := strings.Split(d.Key, ":")
	last := parts[len(parts)-1]
	switch {
	case d.Was == "" && (d.Key == "asynq:queues" || hasAny(d.Key, r.target) && slices.Contains([]string{"id", "meta", "marker", "pc", "events"}, last)):
		return "target"
	case last == "id", last == "events":
		return last
	case last == "marker", last == "pc":
		return "marker"
	case last == "limiter", strings.Contains(d.Key, ":limiter:"):
		return "limiter"
	}
	for _, l := range r.losses {
		if !l.Reversible && l.Subject != "" && strings.HasSuffix(d.Key, ":"+l.Subject) {
			return "loss"
		}
	}
	return ""
}

// why explains a kind of difference.
func why(kind string) string {
	switch kind {
	case "active":
		return "no worker runs here, so an active job is the next to run; a real move waits for its worker"
	case "ended":
		return "its time was over while this ran"
	case "events":
		return "the library's stream of events is not moved; it begins anew"
	case "id":
		return "the counter of job ids covers every id that is in use"
	case "limiter":
		return "counters of the current rate window; limited jobs are in delayed and moved with it"
	case "loss":
		return "a loss that the plan names and that does not come back"
	case "marker":
		return "the library's mark that wakes a worker, which it writes anew with the next job"
	case "target":
		return "what the target keeps of a queue that is gone from it: its counter of ids, whether it is paused, its name"
	}
	return ""
}
