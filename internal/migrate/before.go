package migrate

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/history"
)

// shortestMean is how long a server must have been running before what it counted says something of a day.
const shortestMean = time.Hour

// Before is what a whole Redis is asked to do before a phase changes anything, by KPI: commands a day and
// a month, and connections. Commands are those of the day before where watch covers it, else the mean since the server started.
// What cannot be measured is not Known and says why. watch may be nil. Price: 1 command (INFO).
func Before(ctx context.Context, client redis.UniversalClient, watch Watch, now time.Time) map[string]Evidence {
	out := map[string]Evidence{}
	add := func(kpi, source string, from time.Time, value float64, known bool, missing string) {
		e := Evidence{Source: source, From: from, To: now, Missing: []string{}}
		if e.Known = known; known {
			e.Value, e.Samples, e.Coverage = value, 1, 1
		} else {
			e.Missing = append(e.Missing, missing)
		}
		out[kpi] = e
	}
	r := (&gauge{client: client}).look(ctx, 0)
	c, untold, open := r.counters, "", "INFO does not tell connections"
	switch {
	case r.err != nil:
		untold = "INFO: " + r.err.Error()
		c, open = history.Counters{Commands: history.Unknown, Connections: history.Unknown}, untold
	case c.Uptime < 0:
		untold = "INFO does not tell since when the server counts"
	case c.Uptime < shortestMean:
		untold = fmt.Sprintf("the server started %s ago, and a mean of less than %s tells nothing of a day", c.Uptime, shortestMean)
	}
	mean := float64(c.Commands) * float64(day) / float64(max(1, c.Uptime))
	add(KPICommandsPerDay, "INFO, all commands since the server started, as a mean", now.Add(-max(0, c.Uptime)), mean, untold == "", untold)
	add(KPIConnections, "INFO at that moment", now, float64(c.Connections), c.Connections >= 0, open)
	if watch != nil {
		e, err := watch.Read(ctx, KPICommandsPerDay, now.Add(-day), now)
		if err == nil && e.Known && e.Coverage >= (Gate{}).withDefaults().MinCoverage {
			out[KPICommandsPerDay] = e
		}
	}
	month := out[KPICommandsPerDay]
	month.Value *= 30
	out[KPICommandsPerMonth] = month
	return out
}

// Against gives e the value that the note has of kpi before.
func (n BaselineNote) Against(kpi string, e Evidence) Evidence {
	if was, ok := n.Evidence[kpi]; ok && was.Known {
		e.Before = &was.Value
	}
	return e
}
