package gate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxPlaces is how many places a judgement names.
const maxPlaces = 5

func connectionsOf(s Site) Span { return s.Connections }

func idleOf(s Site) Span { return s.Idle }

// what is made at a site: "bullmq worker".
func (s Site) what() string { return s.Library + " " + s.Kind }

// placesOf are the places that add most to what of measures, compared with the baseline where there is
// one; where the change adds nothing, the places that have most. All instances of all processes count.
func (j *judge) placesOf(of func(Site) Span) []Place {
	if j.ev.Static == nil {
		return nil
	}
	return j.worst(j.ev.Static.Sites, j.base.Sites, of, float64(max(j.ev.Static.Replicas, 1)))
}

// placesIn is placesOf in one instance of one process.
func (j *judge) placesIn(process string, of func(Site) Span) []Place {
	within := func(sites []Site) []Site {
		return slices.DeleteFunc(slices.Clone(sites), func(s Site) bool { return s.Process != process })
	}
	return j.worst(within(j.ev.Static.Sites), within(j.base.Sites), of, 1)
}

func (j *judge) worst(now, before []Site, of func(Site) Span, times float64) []Place {
	all := grownSites(now, before, of)
	if len(all) == 0 {
		all = grownSites(now, nil, of)
	}
	var merged []Place
	for _, p := range all {
		p.Adds = Span{Min: p.Adds.Min * times, Max: p.Adds.Max * times, Open: p.Adds.Open}
		p.times = times
		i := slices.IndexFunc(merged, func(o Place) bool { return o.File == p.File && o.Line == p.Line && o.Column == p.Column })
		if i < 0 {
			merged = append(merged, p)
			continue
		}
		m := &merged[i]
		m.Adds = Span{Min: m.Adds.Min + p.Adds.Min, Max: m.Adds.Max + p.Adds.Max, Open: m.Adds.Open || p.Adds.Open}
		m.times += times
	}
	slices.SortStableFunc(merged, func(a, b Place) int { return cmp.Compare(b.Adds.most(), a.Adds.most()) })
	merged = merged[:min(len(merged), maxPlaces)]
	for i := range merged {
		if f := j.findingAt(merged[i], rulesFor(of)); f != nil {
			merged[i].fix = f.Fix
		}
	}
	return merged
}

// grownSites pairs sites with those of the baseline, by the text of their line and then by what they make
// in their file, and returns those that have more.
func grownSites(now, before []Site, of func(Site) Span) []Place {
	exact := func(s Site) string { return strings.Join([]string{s.File, s.what(), s.Anchor}, "\x00") }
	rough := func(s Site) string { return s.File + "\x00" + s.what() }
	paired := make([]*Site, len(now))
	taken := make([]bool, len(before))
	for _, key := range []func(Site) string{exact, rough} {
		for i, s := range now {
			if paired[i] != nil {
				continue
			}
			for k := range before {
				if !taken[k] && key(before[k]) == key(s) {
					taken[k], paired[i] = true, &before[k]
					break
				}
			}
		}
	}
	var out []Place
	for i, s := range now {
		adds := of(s)
		if paired[i] != nil {
			adds = adds.minus(of(*paired[i]))
		}
		if adds.Max > 0 {
			out = append(out, Place{File: s.File, Line: s.Line, Column: s.Column, What: s.what(), Adds: adds, anchor: s.Anchor})
		}
	}
	return out
}

// siteAt is the site of a place.
func (j *judge) siteAt(p Place) (Site, bool) {
	for _, s := range j.ev.Static.Sites {
		if s.File == p.File && s.Line == p.Line && s.Column == p.Column {
			return s, true
		}
	}
	return Site{}, false
}

// ruleNotShared is the rule of processes that share no connection.
const ruleNotShared = "connection-not-shared"

// sharingRules are those whose remedy lowers the connections of the line they are about.
func sharingRules() []string {
	return []string{ruleNotShared, "connection-per-call", "go-pipeline-pool"}
}

// idleRules are those whose remedy lowers what the line they are about spends with nothing to do.
func idleRules() []string { return []string{"idle-polling", "asynq-polling", "delayed-pins-polling"} }

// rulesFor are the rules whose fix lowers what of measures.
func rulesFor(of func(Site) Span) []string {
	if of(Site{Connections: Exactly(1)}).Min == 1 {
		return sharingRules()
	}
	return idleRules()
}

func (j *judge) findingAt(p Place, rules []string) *Finding {
	for i, f := range j.ev.Static.Findings {
		if f.File == p.File && f.Line == p.Line && slices.Contains(rules, f.Rule) {
			return &j.ev.Static.Findings[i]
		}
	}
	return nil
}

// remedyFor says how to come back within a budget for connections: by the finding about the first
// place, or by what sharing a connection there would save.
func (j *judge) remedyFor(n Judgement, key string) string {
	if n.Measured == nil || len(n.Places) == 0 {
		return ""
	}
	first := n.Places[0]
	at := fmt.Sprintf("%s at %s:%d adds %s", first.What, first.File, first.Line, first.Adds.text())
	raise := ""
	if key != "" && n.Measured.Exact() {
		raise = fmt.Sprintf("budgets.%s: %s", key, amount(n.Measured.Max))
	}
	if f := j.findingAt(first, sharingRules()); f != nil && f.Remedy != "" {
		return at + ": " + f.Remedy
	}
	s, ok := j.siteAt(first)
	if !ok {
		return at
	}
	if !s.Shared && !j.shares(s.Library) { // then sharing is about the whole process, and a finding says how
		for _, f := range j.ev.Static.Findings {
			if f.Rule == ruleNotShared && f.Remedy != "" && j.about(f, s.Library) {
				return at + ": " + f.Remedy
			}
		}
	}
	how, saves := j.sharing(s)
	if saves <= 0 {
		how = "" // one alone has nobody to share with
	}
	switch {
	case how == "" && raise != "":
		return fmt.Sprintf("%s; do its work where a connection is held already, or allow it: %s", at, raise)
	case how == "":
		return at + "; do its work where a connection is held already"
	case n.Measured.Exact():
		left := n.Measured.Min - saves*first.times
		if left > n.Allowed && raise != "" {
			return fmt.Sprintf("%s: %s, which leaves %s; allow those with budgets.%s: %s", at, how, amount(left), key, amount(left))
		}
		return fmt.Sprintf("%s: %s, which leaves %s", at, how, amount(left))
	}
	return at + ": " + how
}

// about reports that a finding is located where something of a library is made.
func (j *judge) about(f Finding, library string) bool {
	return slices.ContainsFunc(j.ev.Static.Sites, func(s Site) bool { return s.File == f.File && s.Line == f.Line && s.Library == library })
}

// shares reports that something of a library uses a connection which was made elsewhere.
func (j *judge) shares(library string) bool {
	return slices.ContainsFunc(j.ev.Static.Sites, func(o Site) bool { return o.Shared && o.Library == library })
}

// sharing says how the connections at a site are shared, and how many that saves; "" where they are
// shared already or cannot be.
func (j *judge) sharing(s Site) (how string, saves float64) {
	if s.Shared || !s.Made.Exact() {
		return "", 0
	}
	exists := j.shares(s.Library)
	one := "pass the shared ioredis instance as connection"
	if !exists {
		one, saves = "make one ioredis instance with maxRetriesPerRequest: null and pass it as connection", -1
	}
	switch s.what() {
	case "bullmq worker":
		return one + ", so that a worker keeps only the one it blocks on", saves + s.Made.Min
	case "bullmq queue", "bullmq flow-producer":
		return one + ", so that a queue keeps none of its own", saves + s.Made.Min
	case "bull queue":
		if s.Connections.Exact() && s.Connections.Min == 3*s.Made.Min {
			how := "return shared instances for client and subscriber from createClient, so that a queue keeps only the one it blocks on"
			if !exists {
				return how, 2*s.Made.Min - 2
			}
			return how, 2 * s.Made.Min
		}
	}
	return "", 0
}

// idleRemedy says how the first place idles for less.
func (j *judge) idleRemedy(n Judgement) string {
	if len(n.Places) == 0 || j.ev.Static == nil {
		return ""
	}
	first := n.Places[0]
	at := fmt.Sprintf("%s at %s:%d adds %s", first.What, first.File, first.Line, plural(first.Adds, "command a month"))
	if f := j.findingAt(first, idleRules()); f != nil && f.Remedy != "" {
		return at + ": " + f.Remedy
	}
	switch first.What {
	case "bullmq worker":
		return at + ": drainDelay: 300, stalledInterval: 300000 in the Worker's options, or work that queue in a worker that exists"
	case "bull queue":
		return at + ": settings: { drainDelay: 300, guardInterval: 300000, stalledInterval: 300000 }, or work that queue where one is worked already"
	}
	return at
}
