package gate

import (
	"fmt"
	"path"
	"strings"

	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// waive applies the waivers that hold, and says what became of each.
func (j *judge) waive() {
	r := j.report
	for i, w := range j.opts.Budgets.Waivers {
		use := WaiverUse{
			Rule: w.Rule, File: w.File, Subject: w.Subject, Owner: w.Owner, Reason: w.Reason, Expires: w.Expires,
			Expired: w.Expired(j.opts.Now), Verdict: Waived,
		}
		for k := range r.Judgements {
			n := &r.Judgements[k]
			if n.WaivedBy < 0 && (n.Verdict == Fail || n.Verdict == Warn) && waivesBudget(w, *n) {
				use.Matches++
				if !use.Expired {
					n.Verdict, n.WaivedBy = Waived, i
				}
			}
		}
		for k := range r.Findings {
			f := &r.Findings[k]
			if f.State != StateWaived && waivesFinding(w, *f) {
				use.Matches++
				if !use.Expired {
					f.State, f.WaivedBy = StateWaived, i
				}
			}
		}
		who := fmt.Sprintf("%s until %s: %s", w.Owner, w.Expires, w.Reason)
		switch {
		case use.Expired:
			use.Verdict, use.Message = Fail, fmt.Sprintf("expired on %s; ask %s to remove or renew it (%s)", w.Expires, w.Owner, w.Reason)
		case use.Matches == 0:
			use.Verdict, use.Message = Warn, "matches nothing any more; remove it ("+who+")"
		case use.Matches == 1:
			use.Message = "waives 1, " + who
		default:
			use.Message = fmt.Sprintf("waives %d, %s", use.Matches, who)
		}
		r.Waivers = append(r.Waivers, use)
	}
}

func waivesBudget(w budget.Waiver, n Judgement) bool {
	if n.Budget != w.Rule && !strings.HasPrefix(n.Budget, w.Rule+".") {
		return false
	}
	if w.Subject != "" && w.Subject != n.Subject {
		return false
	}
	return w.File == "" || len(n.Places) > 0 && like(w.File, n.Places[0].File)
}

func waivesFinding(w budget.Waiver, f Judged) bool {
	return f.Rule == w.Rule && (w.Subject == "" || w.Subject == f.Subject) && (w.File == "" || like(w.File, f.File))
}

// like reports whether a pattern fits a path.
func like(pattern, file string) bool {
	ok, err := path.Match(pattern, file)
	return ok && err == nil
}
