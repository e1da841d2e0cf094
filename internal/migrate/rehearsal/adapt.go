package rehearsal

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/ramp"
)

// makePhase makes the phase of a leg as it runs on the stage, and says what is different there.
func (w *walker) makePhase(ctx context.Context, leg Leg) (migrate.Phase, []string, error) {
	client := w.stage.Old.Client()
	switch leg.Target.Phase {
	case step.Phase1Name:
		return w.makePhase1(leg)
	case step.Phase2Name:
		var plan step.Phase2Plan
		if err := json.Unmarshal(leg.Options, &plan); err != nil {
			return nil, nil, planError(leg, err)
		}
		told := adaptPhase2(&plan)
		p, err := step.NewPhase2(client, plan, w.env())
		return p, told, err
	case step.Phase3Name:
		route, err := step.ReadRoute(leg.Options)
		if err != nil {
			return nil, nil, planError(leg, err)
		}
		told := []string{"no worker runs, so jobs that are active move as those of a worker that died"}
		if route.Soak != nil {
			route.Soak = nil
			told = append(told, "nothing soaks")
		}
		p, err := step.NewQueuePhase(client, step.Phase3Options{Route: route, WorkersStopped: true, ActiveTimeout: -1}, w.env())
		return p, told, err
	case step.Phase4Name:
		var plan step.Phase4Plan
		if err := json.Unmarshal(leg.Options, &plan); err != nil {
			return nil, nil, planError(leg, err)
		}
		told := []string{}
		if len(leg.Begun) == 0 {
			told = append(told, "the backup goes to a directory of its own and is removed with it")
			plan.File = filepath.Join(w.stage.Dir, "rehearsal.backup")
			if err := w.dropStreams(ctx, plan.Prefixes, &told); err != nil {
				return nil, nil, err
			}
		} else if err := smallBackup(plan.File); err != nil {
			return nil, nil, err
		}
		p, err := step.NewPhase4(client, plan, w.env())
		return p, told, err
	}
	return nil, nil, &step.PhaseError{Phase: leg.Target.Phase}
}

func planError(leg Leg, err error) error { return fmt.Errorf("plan of %s: %w", leg.Target, err) }

// stagedMS is how long a staged resume may take on the stage.
const stagedMS = 200

// adaptPhase2 takes the waits out of a plan.
func adaptPhase2(plan *step.Phase2Plan) []string {
	told := []string{}
	if plan.HoldMS > 0 || plan.Soak != nil || slices.ContainsFunc(plan.Queues, func(q step.PausedQueue) bool { return q.MaxPauseMS > 0 }) {
		told = append(told, "pauses are not held, and nothing soaks")
	}
	plan.HoldMS, plan.Soak = 0, nil
	plan.Queues = slices.Clone(plan.Queues)
	for i := range plan.Queues {
		plan.Queues[i].MaxPauseMS = 0
	}
	if plan.StageMS == 0 || plan.StageMS > stagedMS {
		plan.StageMS = stagedMS
		told = append(told, fmt.Sprintf("a staged resume takes %d ms", stagedMS))
	}
	return told
}

// rehearsalURL is the address of the replica that phase 1 asks on the stage. Nothing is sent there.
const rehearsalURL = "http://localhost"

func (w *walker) makePhase1(leg Leg) (migrate.Phase, []string, error) {
	var plan step.Phase1Plan
	if err := json.Unmarshal(leg.Options, &plan); err != nil {
		return nil, nil, planError(leg, err)
	}
	told := []string{
		"this program stands in for the replicas of redisopt serve, with reads, writes and checks of its own",
		"shares and the soak last until their gates pass; latency and hit rate are not judged",
	}
	routes := []string{}
	for _, route := range plan.Routes {
		if route != ramp.Cache && route != ramp.Limit {
			told = append(told, fmt.Sprintf("route %s of an application goes the way of redisopt's own cache", route))
			route = ramp.Cache
		}
		if !slices.Contains(routes, route) {
			routes = append(routes, route)
		}
	}
	if len(plan.Routes) == 0 {
		routes = []string{ramp.Cache, ramp.Limit}
	}
	plan.Routes, plan.Replicas = routes, []string{rehearsalURL}
	plan.StepMS, plan.SoakMS = -1, -1
	plan.Gates.P95, plan.Gates.HitRate, plan.Gates.MinSamples = -1, -1, 1
	plan.Gates.CommandsPerDay, plan.Gates.Connections = 0, 0
	if plan.Old == "" {
		plan.Old = "the copy"
	}
	if plan.New == "" {
		plan.New = "an empty Redis"
	}
	w.control = cmp.Or(plan.ControlKey, control.DefaultKey)
	var err error
	if w.traffic, err = newTraffic(w.stage, plan, w.without(w.keys)); err != nil {
		return nil, nil, err
	}
	told = append(told, w.traffic.told...)
	all := plan.Percentages
	if len(all) == 0 {
		all = []float64{1, 5, 25, 50, 100}
	}
	if len(leg.Begun) == 0 {
		plan.Percentages = w.traffic.reachable(all)
	}
	if dropped := len(all) - len(plan.Percentages); dropped > 0 && len(leg.Begun) == 0 {
		told = append(told, fmt.Sprintf("%d of %d shares are left out, because no copied key is in them", dropped, len(all)))
	}
	p, err := step.NewPhase1(w.stage.Old.Client(), plan, w.env())
	if err != nil {
		return nil, told, err
	}
	p.Fleet, p.Every = w.traffic.fleet(), gateEvery
	p.New = w.stage.New.Client()
	if plan.SameDatabase {
		p.New = w.stage.Old.Client()
	}
	return p, told, nil
}

// notCarried are the kinds of keys that phase 1 does not take to the new side: its cache knows strings.
func notCarried(keys []capture.Key) map[string]int64 {
	out := map[string]int64{}
	for _, k := range keys {
		if k.Type == "string" || accounts(k.Name) || ofQueue(k.Name, nil) || strings.HasPrefix(k.Name, "redisopt:limit:") {
			continue
		}
		out[k.Type]++
	}
	return out
}

// dropStreams takes streams under prefixes off the stage: a backup keeps them as the server dumps them, which
// the embedded Redis cannot.
func (w *walker) dropStreams(ctx context.Context, prefixes []string, told *[]string) error {
	n := 0
	for _, k := range w.keys {
		if k.Type != "stream" || !hasAny(k.Name, prefixes) {
			continue
		}
		if err := w.stage.Old.Client().Del(ctx, k.Name).Err(); err != nil {
			return fmt.Errorf("leave streams out: %w", err)
		}
		n++
	}
	if n > 0 {
		*told = append(*told, fmt.Sprintf("%d streams are left out: the embedded Redis cannot dump them", n))
	}
	return nil
}

// A TooLargeError reports a backup that is too large to be restored in memory.
type TooLargeError struct {
	File  string
	Bytes int64
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("backup %s has %d bytes, and at most %d are restored in memory", e.File, e.Bytes, maxBytes)
}

// smallBackup returns a *TooLargeError for a file that the stage has no room for.
func smallBackup(path string) error {
	is, err := os.Stat(path)
	if err != nil {
		return err
	}
	if is.Size() > maxBytes {
		return &TooLargeError{File: path, Bytes: is.Size()}
	}
	return nil
}
