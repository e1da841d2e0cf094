package source

import (
	"fmt"
	"strings"

	"github.com/redisopt/redisopt/internal/inspect"
)

// envFileTracked finds files of secrets that git keeps. It never shows what is in them.
func envFileTracked(f *facts) {
	if len(f.project.tree.envs) == 0 {
		return
	}
	tracked, err := gitTracked(f.project.root)
	if err != nil {
		return // not a repository, or one that is not read: nothing is known
	}
	for _, rel := range f.project.tree.envs {
		if !tracked[rel] || strings.Contains(rel, "example") || strings.Contains(rel, "sample") || strings.Contains(rel, "template") {
			continue
		}
		names, line := f.project.secretNames(rel)
		if len(names) == 0 {
			continue
		}
		f.keep(inspect.Finding{
			Severity: inspect.Critical, Subject: rel, File: rel, Line: line, Column: 1,
			Message: fmt.Sprintf("git keeps this file, and it gives values to %s", strings.Join(names, ", ")),
			Remedy:  fmt.Sprintf("git rm --cached %s, add it to .gitignore, and replace those secrets: they stay in the history", rel),
		})
	}
}

// secretNames are variables with a value whose names say that it is one to keep. The values are not
// kept, not even in memory.
func (p *project) secretNames(rel string) (names []string, first int) {
	src, err := p.read(rel)
	if err != nil {
		return nil, 0
	}
	n := 0
	for line := range strings.SplitSeq(string(src), "\n") {
		n++
		name, v, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		name = strings.TrimSpace(name)
		if !ok || strings.HasPrefix(name, "#") || strings.Trim(v, " \"'\r") == "" || !secret(name, v) {
			continue
		}
		if first == 0 {
			first = n
		}
		names = append(names, name)
	}
	return names, first
}

func secret(name, v string) bool {
	upper := strings.ToUpper(name)
	for _, word := range []string{"TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "PRIVATE_KEY"} {
		if strings.Contains(upper, word) {
			return true
		}
	}
	// An address with a password in it.
	_, rest, isURL := strings.Cut(v, "://")
	user, _, at := strings.Cut(rest, "@")
	return isURL && at && strings.Contains(user, ":") && !strings.HasSuffix(user, ":")
}
