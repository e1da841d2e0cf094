//go:build !race

package main

import "testing"

// Under -race the scripts of the embedded Redis are too slow for the libraries.
func TestIdleWorkersOfBullAndBullMQDoNoWork(t *testing.T) {
	dir := peers(t)
	doc, stderr := recordHere(t, 0, nil, "cd '"+dir+"' && node record-queues.js 4000")
	got := tests(doc)
	if idle := got["idle"]; idle.Work != 0 || idle.Idle < 10 || idle.InScript == 0 {
		t.Errorf("idle: %+v, want commands, in scripts too, and none of them work\n%s", idle.Count, stderr)
	}
	if jobs := got["jobs"]; jobs.Work < 20 {
		t.Errorf("jobs: %+v, want the work of two jobs", jobs.Count)
	}
	titled := 0
	for _, s := range doc.Scripts {
		if s.Title != "" {
			titled++
		}
	}
	if titled == 0 || doc.Redis.InScript != "exact" || len(doc.Missing) > 0 {
		t.Errorf("%d scripts with a title, %+v, missing %q", titled, doc.Redis, doc.Missing)
	}
}
