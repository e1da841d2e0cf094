package main

import (
	"time"

	"github.com/redisopt/redisopt/internal/inspect/plan"
)

// pricedPlan is the plan whose price for commands a benchmark shows.
const pricedPlan = "upstash-payg"

// usdPerMillion is what a million commands cost on pricedPlan, by the catalogue inside this program.
func usdPerMillion(now time.Time) (float64, error) {
	catalogue, err := plan.Embedded()
	if err != nil {
		return 0, err
	}
	r, err := plan.Compare(plan.Load{Top: 1e6, Databases: 1}, plan.Options{Catalogue: catalogue, Now: now, Provider: pricedPlan})
	if err != nil {
		return 0, err
	}
	for _, q := range r.Quotes {
		if q.Plan == pricedPlan {
			return q.USDPerMonth, nil
		}
	}
	return 0, nil
}
