package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/gate"
	"github.com/redisopt/redisopt/internal/inspect/source"
	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// offlineEvidence is what code and files tell. root is where the code is.
func (a *app) offlineEvidence(ctx context.Context, f budgetFlags) (gate.Evidence, string, error) {
	ev := gate.Evidence{Absent: map[budget.Evidence]string{}}
	if f.code != "" {
		bar := a.progress("files")
		bar.begin("read "+f.code, 0)
		s, err := staticEvidence(ctx, f.code, f.Options, f.provider.value)
		bar.finish()
		if err != nil {
			return ev, "", err
		}
		if s == nil {
			ev.Absent[budget.Static] = "no TypeScript, JavaScript or Go was found below " + f.code
		}
		ev.Static = s
	}
	var errs []error
	for _, path := range f.record {
		r, err := a.readEvidence(path, gate.ReadRecord)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("--record %s: %w", path, err))
		case ev.Recorded == nil:
			ev.Recorded = r
		default:
			ev.Recorded.Merge(r)
		}
	}
	for _, path := range f.bench {
		b, why, err := readBench(path)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("--bench %s: %w", path, err))
		case b == nil:
			ev.Absent[budget.Bench] = path + " is no evidence: " + why
		case ev.Bench == nil:
			ev.Bench = b
		default:
			ev.Bench.Results = append(ev.Bench.Results, b.Results...)
			ev.Bench.Missing = append(ev.Bench.Missing, b.Missing...)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return ev, "", &usageError{err}
	}
	return ev, f.code, nil
}

func (a *app) readEvidence(path string, read func(io.Reader) (*gate.Recorded, error)) (*gate.Recorded, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer func() { _ = in.Close() }()
	return read(in)
}

// staticEvidence reads code. Nil without an error says that there is none, which tells nothing.
func staticEvidence(ctx context.Context, root string, opts source.Options, provider string) (*gate.Static, error) {
	r, err := source.Scan(ctx, root, opts)
	if err != nil {
		_, isPath := errors.AsType[*fs.PathError](err)
		if _, isEntry := errors.AsType[*source.EntryError](err); isPath || isEntry {
			return nil, usagef("%w", err)
		}
		return nil, err
	}
	if r.Files.Scripts+r.Files.Go+r.Files.Unparsed == 0 {
		return nil, nil //nolint:nilnil // there is nothing to judge by, which is no error
	}
	return staticOf(r, provider, (&lineReader{root: root}).anchor), nil
}

// staticOf is what a scan found in the words of the gate; anchor tells lines apart by their text.
func staticOf(r *source.Report, provider string, anchor func(file string, line int) string) *gate.Static {
	s := &gate.Static{
		Connections: gate.Span(r.Connections), RollingDeploy: gate.Span(r.RollingDeploy), Idle: whole(r.Idle.All),
		Replicas: r.Replicas, Missing: r.Missing,
	}
	if n := r.Files.Unparsed; n > 0 {
		s.Missing = append(slices.Clone(s.Missing), "what "+plural(int64(n), "file")+" with syntax errors makes")
	}
	for _, p := range r.Processes {
		if !p.Started {
			continue // it does not count into the totals either
		}
		s.Processes = append(s.Processes, gate.Process{Name: p.Name, Connections: gate.Span(p.Connections)})
		for _, x := range p.Sites {
			s.Sites = append(s.Sites, gate.Site{
				Process: p.Name, File: x.File, Line: x.Line, Column: x.Column, Anchor: anchor(x.File, x.Line),
				Library: string(x.Library), Kind: string(x.Kind), Shared: x.Shared,
				Made: gate.Span(x.Made), Connections: gate.Span(x.Connections), Idle: whole(x.Idle.All),
			})
		}
	}
	s.Findings = gateFindings(r.Findings, anchor)
	for _, u := range r.Unresolved {
		s.Unresolved = append(s.Unresolved, fmt.Sprintf("%s:%d: %s: %s", u.File, u.Line, u.What, u.Why))
	}
	if provider == "" {
		provider = "upstash-payg"
	}
	for _, b := range r.Bills {
		if b.Plan == provider {
			s.Cost = &gate.Cost{Plan: b.Plan, USDPerMonth: gate.Span(b.USDPerMonth), AsOf: b.AsOf}
		}
	}
	return s
}

// whole is a number of commands a month without the traces of its arithmetic.
func whole(r source.Range) gate.Span {
	return gate.Span{Min: math.Round(r.Min), Max: math.Round(r.Max), Open: r.Open}
}

func gateFindings(found []inspect.Finding, anchor func(file string, line int) string) []gate.Finding {
	out := make([]gate.Finding, len(found))
	for i, f := range found {
		out[i] = gate.Finding{Finding: f}
		if f.File != "" && anchor != nil {
			out[i].Anchor = anchor(f.File, f.Line)
		}
	}
	return out
}

// A lineReader tells lines apart by their text, wherever they move. It keeps the file it read last.
type lineReader struct {
	root  string
	file  string
	lines []string
}

// anchor is a fingerprint of a line without its indentation; empty where there is none. Files of secrets
// have none, because it goes into baselines.
func (l *lineReader) anchor(file string, line int) string {
	if strings.HasPrefix(path.Base(file), ".env") {
		return ""
	}
	if file != l.file {
		text, err := os.ReadFile(filepath.Join(l.root, filepath.FromSlash(file)))
		if err != nil {
			text = nil
		}
		l.file, l.lines = file, strings.Split(string(text), "\n")
	}
	if line < 1 || line > len(l.lines) {
		return ""
	}
	text := strings.TrimSpace(l.lines[line-1])
	if text == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}
