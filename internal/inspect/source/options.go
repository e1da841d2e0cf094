package source

import (
	"errors"
	"fmt"
	"path"
)

// Bounds of what is read.
const (
	maxFileBytes    = 1 << 20
	minifiedLine    = 5_000 // a line longer than this is not written by hand
	minifiedAverage = 300   // nor are lines that are this long all over
	maxReplicas     = 100_000
)

// Options of a scan. The zero value works.
type Options struct {
	// Replicas is how many instances of every process run. Default 1, at most 100,000.
	Replicas int

	// Entries are the files that processes start with, relative to the root. Default: what the
	// scripts, bin and main of package.json and a Procfile start; without any, all files that no other
	// imports are taken for one process.
	Entries []string

	// Exclude are globs of paths relative to the root, and of names, that are not read.
	Exclude []string

	// Env are environment variables whose values are known. All others count as not set where the code
	// has a default for them, and as unknown where it has none.
	Env map[string]string

	// Budget is the number of commands per 30 days to compare with. Default 500,000, what Upstash's
	// free plan includes.
	Budget int64

	// Workers bounds how many files are read at once. Default 2.
	Workers int
}

func (o Options) withDefaults() Options {
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.Budget == 0 {
		o.Budget = freeCommands
	}
	if o.Workers == 0 {
		o.Workers = 2
	}
	return o
}

// Validate reports everything that is wrong with the options; the zero value is right.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	if o.Replicas < 1 || o.Replicas > maxReplicas {
		errs = append(errs, fmt.Errorf("replicas: got %d, want 1 to %d", o.Replicas, maxReplicas))
	}
	if o.Budget < 0 {
		errs = append(errs, fmt.Errorf("budget: got %d, want 0 or more", o.Budget))
	}
	if o.Workers < 1 {
		errs = append(errs, fmt.Errorf("workers: got %d, want 1 or more", o.Workers))
	}
	for _, g := range o.Exclude {
		if _, err := path.Match(g, ""); err != nil {
			errs = append(errs, fmt.Errorf("exclude: %q is not a pattern", g))
		}
	}
	return errors.Join(errs...)
}
