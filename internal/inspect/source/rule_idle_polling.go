package source

import (
	"fmt"
	"strings"

	"github.com/redisopt/redisopt/internal/inspect"
)

// idlePolling finds workers that ask an empty queue for jobs more often than they need to: a push
// wakes a blocked worker at once, however long it blocks.
func idlePolling(f *facts) {
	for _, s := range f.sites {
		if !s.first().consumes() {
			continue
		}
		now, after := s.b.idle(), afterRemedy(s)
		saving := (now.All.Max - after.All.Max) * float64(f.opts.Replicas)
		if saving < 0.05*now.All.Max*float64(f.opts.Replicas) || now.All.Max == 0 {
			continue
		}
		severity := inspect.Note
		if now.All.Max*float64(f.opts.Replicas) > 0.1*float64(f.opts.Budget) {
			severity = inspect.Warning
		}
		f.found(s.first().place, inspect.Finding{
			Severity: severity, Subject: queueText(s.made),
			Message: fmt.Sprintf("%g of these poll an empty queue every %s: %.2f M commands a month top-level, %.2f M with those in scripts",
				madeHere(s).max, pollText(s.first()), now.Top.Max/1e6, now.All.Max/1e6),
			Remedy:                 fmt.Sprintf("%s; leaves %.2f M with those in scripts. New jobs still wake the worker at once; a crashed worker's jobs are found later", remedyText(s.first()), after.All.Max/1e6),
			SavingCommandsPerMonth: saving,
			Fix:                    pollFix(s.first()),
		})
	}
}

// madeHere is how many the place makes.
func madeHere(s *siteFacts) span {
	var all []weighed
	for _, k := range s.made {
		all = append(all, weighed{k.guards, span{min: 1, max: 1}})
	}
	return total(all)
}

func pollText(k *construction) string {
	if k.library == Bull {
		return "drainDelay, guardInterval and stalledInterval"
	}
	return "drainDelay and stalledInterval"
}

// afterRemedy is what the place spends with every interval at 300 seconds or what it is already.
func afterRemedy(s *siteFacts) Idle {
	b := newBundle()
	for _, k := range s.made {
		slow := *k
		o := newObject()
		at := o
		if k.library == Bull {
			at = newObject()
			o.set("settings", at)
		}
		at.set("drainDelay", float64(remedySeconds))
		for _, name := range []string{"guardInterval", "stalledInterval"} {
			at.set(name, float64(remedySeconds*1000))
		}
		for _, keep := range []string{"skipStalledCheck", "autorun"} {
			if v := k.option(keep); v != nil {
				o.set(keep, v)
			}
		}
		slow.options = o
		b.add(&slow, s.run.ev.delayedOn(k))
	}
	return b.idle()
}

func remedyText(k *construction) string {
	if k.library == Bull {
		return fmt.Sprintf("settings: { drainDelay: %d, guardInterval: %d, stalledInterval: %d }", remedySeconds, remedySeconds*1000, remedySeconds*1000)
	}
	return fmt.Sprintf("drainDelay: %d, stalledInterval: %d in the Worker's options", remedySeconds, remedySeconds*1000)
}

// pollFix writes the intervals into the options, when they are an object literal.
func pollFix(k *construction) *inspect.Fix {
	o, keys := k.options, []string{"drainDelay", "stalledInterval"}
	if k.library == Bull {
		keys = []string{"drainDelay", "guardInterval", "stalledInterval"}
		settings, ok := likely(k.option("settings")).(*object)
		if !ok {
			return addOption(o, remedyText(k))
		}
		o = settings
	}
	var edits []inspect.Edit
	var missing []string
	for _, key := range keys {
		v := fmt.Sprint(remedySeconds * 1000)
		if key == "drainDelay" {
			v = fmt.Sprint(remedySeconds)
		}
		if o != nil && o.props[key] == nil {
			missing = append(missing, key+": "+v)
			continue
		}
		e, ok := setOption(o, key, v)
		if !ok {
			return nil
		}
		edits = append(edits, e)
	}
	if len(missing) > 0 {
		e, ok := intoLiteral(o, strings.Join(missing, ", "))
		if !ok {
			return nil
		}
		edits = append(edits, e)
	}
	return fix("poll every 300 s", edits...)
}
