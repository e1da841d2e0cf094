package demo

import (
	"fmt"
	"slices"
	"strings"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
)

// shownKeys is how many keys of one kind of difference are named.
const shownKeys = 10

// isJob reports whether a key is a job: both libraries write the time it was added into its hash, and
// into no other hash.
func isJob(k capture.Key) bool {
	fields, ok := k.Value.(map[string]string)
	return ok && fields["timestamp"] != ""
}

func countJobs(keys []capture.Key) int {
	n := 0
	for _, k := range keys {
		if isJob(k) {
			n++
		}
	}
	return n
}

// explain divides the differences between the capture and what is there now into those that must be
// and those that must not. added are the ids that the live producer got, all in the queue live.
func explain(was, is []capture.Key, live queueName, added []string) Comparison {
	is = withoutAdded(is, live, added)
	e := explainer{kinds: map[string]*Explanation{}}
	total := len(was)
	was, requeued := withoutOwners(was)
	for _, key := range requeued {
		e.note("active", key)
	}
	for _, id := range added {
		e.note("live", live.key(id))
	}
	if len(added) > 0 {
		e.note("live", live.key("wait"))
	}
	differs := map[string]bool{}
	out := Comparison{Keys: total, Expected: []Explanation{}, Unexplained: []string{}}
	for _, d := range capture.Compare(was, is) {
		differs[d.Key] = true
		if kind := kindOf(d.Key); kind != "" {
			e.note(kind, d.Key)
			continue
		}
		out.Unexplained = append(out.Unexplained, d.String())
	}
	for _, k := range was {
		grew := len(added) > 0 && k.Name == live.key("wait")
		if !grew && !differs[k.Name] && !slices.Contains(requeued, k.Name) {
			out.Identical++
		}
	}
	for _, kind := range []string{"lock", "active", "limiter", "stalled-check", "id", "live"} {
		if x := e.kinds[kind]; x != nil {
			out.Expected = append(out.Expected, *x)
		}
	}
	return out
}

// withoutOwners is the capture as a move leaves it: a job that was active when its worker died is next
// to run, at the right end of wait, as Bull itself would put it. It names the lists that changed.
func withoutOwners(keys []capture.Key) (out []capture.Key, changed []string) {
	active := map[string][]string{} // by the queue's wait list
	for _, k := range keys {
		ids, ok := k.Value.([]string)
		if queue, is := strings.CutSuffix(k.Name, ":active"); is && ok {
			active[queue+":wait"] = ids
			changed = append(changed, k.Name)
			continue
		}
		out = append(out, k)
	}
	for i, k := range out {
		if ids, ok := k.Value.([]string); ok && len(active[k.Name]) > 0 {
			out[i].Value = append(slices.Clone(ids), active[k.Name]...)
			changed = append(changed, k.Name)
		}
	}
	return out, changed
}

// withoutAdded takes the live producer's jobs out of a dump: their hashes, and their ids from wait.
// An id that is in wait twice, or not at all, stays a difference.
func withoutAdded(keys []capture.Key, live queueName, added []string) []capture.Key {
	hashes := map[string]bool{}
	for _, id := range added {
		hashes[live.key(id)] = true
	}
	var out []capture.Key
	for _, k := range keys {
		if hashes[k.Name] {
			continue
		}
		if ids, ok := k.Value.([]string); ok && k.Name == live.key("wait") {
			k.Value = withoutOnce(ids, added)
		}
		out = append(out, k)
	}
	return out
}

// withoutOnce removes each of drop from list once. One that is not there is put in, so that the
// comparison shows it.
func withoutOnce(list, drop []string) []string {
	out := slices.Clone(list)
	for _, id := range drop {
		if i := slices.Index(out, id); i >= 0 {
			out = slices.Delete(out, i, i+1)
		} else {
			out = append(out, fmt.Sprintf("(%s is missing)", id))
		}
	}
	return out
}

// kindOf says why a key may differ, empty when it may not.
func kindOf(key string) string {
	parts := strings.Split(key, ":")
	last := parts[len(parts)-1]
	switch {
	case last == "lock":
		return "lock"
	case last == "stalled-check", last == "id":
		return last
	case last == "limiter", strings.Contains(key, ":limiter:"):
		return "limiter"
	}
	return ""
}

type explainer struct{ kinds map[string]*Explanation }

func (e *explainer) note(kind, key string) {
	x := e.kinds[kind]
	if x == nil {
		x = &Explanation{Kind: kind, Why: whyDifferent(kind), Keys: []string{}}
		e.kinds[kind] = x
	}
	x.Count++
	if len(x.Keys) < shownKeys {
		x.Keys = append(x.Keys, key)
	}
}

func whyDifferent(kind string) string {
	switch kind {
	case "lock":
		return "the worker that held it is gone, so it is not loaded: its job moves as one whose owner died"
	case "active":
		return "the active job's worker is gone: it is next to run, at the right end of wait"
	case "limiter":
		return "counters of the current rate window; limited jobs are in delayed and moved with it"
	case "stalled-check":
		return "throttles a look for dead workers; expires after 30 s and is written anew by every worker"
	case "id":
		return "the counter of job ids went on with the jobs that were added"
	case "live":
		return "added by the simulated producer while the queue was moved: there once each, in wait"
	}
	return ""
}
