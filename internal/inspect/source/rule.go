package source

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/redisopt/redisopt/internal/inspect"
)

// A rule looks for one thing that is wrong.
type rule struct {
	id    string
	check func(*facts)
}

// rules are all of them, one to a file.
func rules() []rule {
	return []rule{
		{"idle-polling", idlePolling},
		{"delayed-pins-polling", delayedPinsPolling},
		{"connection-not-shared", connectionNotShared},
		{"connection-per-call", connectionPerCall},
		{"worker-job-options", workerJobOptions},
		{"worker-retry-limit", workerRetryLimit},
		{"bull-create-client", bullCreateClient},
		{"queue-two-libraries", queueTwoLibraries},
		{"finished-jobs-kept", finishedJobsKept},
		{"job-id-blocks", jobIDBlocks},
		{"missing-tls", missingTLS},
		{"retries-forever", retriesForever},
		{"keys-command", keysCommand},
		{"flush-command", flushCommand},
		{"limiter-order", limiterOrder},
		{"limiter-parallel", limiterParallel},
		{"limiter-member-collides", limiterMemberCollides},
		{"limiter-analytics", limiterAnalytics},
		{"expire-not-awaited", expireNotAwaited},
		{"json-parse-twice", jsonParseTwice},
		{"json-format-mixed", jsonFormatMixed},
		{"error-text-matched", errorTextMatched},
		{"event-never-emitted", eventNeverEmitted},
		{"falsy-cache-hit", falsyCacheHit},
		{"env-file-tracked", envFileTracked},
		{"go-pipeline-pool", goPipelinePool},
		{"asynq-polling", asynqPolling},
	}
}

// Rules are the names of all rules, in the order in which they are judged.
func Rules() []string {
	names := []string{}
	for _, r := range rules() {
		names = append(names, r.id)
	}
	return append(names, "syntax-error")
}

// facts are what rules look at, and where they put what they find.
type facts struct {
	*scan
	report  *Report
	rule    string
	sites   []*siteFacts
	scripts []*module // read files that reach a library
	sent    []*command
	seen    map[string]bool
}

// A siteFacts is one place with everything that it makes in one process.
type siteFacts struct {
	run  *run
	made []*construction
	b    *bundle
}

// first stands for all that the place makes.
func (s *siteFacts) first() *construction { return s.made[0] }

// judge runs every rule.
func (s *scan) judge(r *Report) {
	f := &facts{scan: s, report: r, seen: make(map[string]bool)}
	f.gather()
	for _, rule := range rules() {
		f.rule = rule.id
		rule.check(f)
	}
	r.Findings = append(r.Findings, s.project.syntax...)
	rank := map[inspect.Severity]int{inspect.Critical: 0, inspect.Warning: 1, inspect.Note: 2}
	slices.SortStableFunc(r.Findings, func(a, b inspect.Finding) int {
		return cmp.Or(cmp.Compare(rank[a.Severity], rank[b.Severity]), cmp.Compare(b.SavingCommandsPerMonth, a.SavingCommandsPerMonth),
			cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

func (f *facts) gather() {
	reaching := f.project.reach
	scripts := make(map[string]bool)
	for _, run := range f.runs {
		at := make(map[place]*siteFacts)
		for _, k := range run.ev.made {
			s := at[k.place]
			if s == nil {
				s = &siteFacts{run: run, b: newBundle()}
				at[k.place] = s
				f.sites = append(f.sites, s)
			}
			s.made = append(s.made, k)
			s.b.add(k, run.ev.delayedOn(k))
		}
		f.sent = append(f.sent, run.ev.commands...)
		for path, m := range run.ev.modules {
			if m.file != nil && reaching[path] && !scripts[path] && !isTest(path) {
				scripts[path] = true
				f.scripts = append(f.scripts, m)
			}
		}
	}
	slices.SortFunc(f.scripts, func(a, b *module) int { return cmp.Compare(a.path, b.path) })
}

// found keeps a finding at a place, once.
func (f *facts) found(at place, found inspect.Finding) {
	found.Rule = f.rule
	var ok bool
	if found.File, found.Line, found.Column, ok = where(at); !ok && at.mod == nil {
		return
	}
	f.keep(found)
}

func (f *facts) keep(found inspect.Finding) {
	found.Rule = f.rule
	key := fmt.Sprintf("%s %s:%d:%d", f.rule, found.File, found.Line, found.Column)
	if f.seen[key] {
		return
	}
	f.seen[key] = true
	if found.SavingCommandsPerMonth > 0 {
		found.SavingUSDPerMonth = usd(found.SavingCommandsPerMonth)
	}
	f.report.Findings = append(f.report.Findings, found)
}

// queueText names queues for a sentence.
func queueText(made []*construction) string {
	var names []string
	for _, k := range made {
		if k.queue != "" && !slices.Contains(names, k.queue) {
			names = append(names, k.queue)
		}
	}
	switch {
	case len(names) == 0:
		return "a queue whose name is not known"
	case len(names) == 1:
		return "queue " + names[0]
	}
	return fmt.Sprintf("%d queues", len(names))
}
