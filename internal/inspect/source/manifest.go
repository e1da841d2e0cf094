package source

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
)

// A manifest is a package.json.
type manifest struct {
	dir string
	rel string

	Name            string            `json:"name"`
	Main            string            `json:"main"`
	Bin             json.RawMessage   `json:"bin"`
	Scripts         map[string]string `json:"scripts"`
	Dependencies    map[string]string `json:"dependencies"`
	DevDependencies map[string]string `json:"devDependencies"`
}

func (p *project) readManifests() {
	for _, rel := range p.tree.packages {
		src, err := p.read(rel)
		m := &manifest{dir: path.Dir(rel), rel: rel}
		if err != nil || json.Unmarshal(src, m) != nil {
			p.tree.skipped.Unreadable++
			continue
		}
		p.packages = append(p.packages, m)
	}
	slices.SortFunc(p.packages, func(a, b *manifest) int { return strings.Compare(a.rel, b.rel) })
}

// A start is a process and the scripts it begins with.
type start struct {
	name    string
	entries []string
}

// starts returns the processes of the project and says how they were found.
func (p *project) starts(asked []string) (found []start, how string) {
	if len(asked) > 0 {
		return p.asked(asked), "the entry points that were named"
	}
	add := func(name, file string) {
		for _, s := range found {
			if s.entries[0] == file {
				return
			}
		}
		found = append(found, start{name, []string{file}})
	}
	for _, m := range p.packages {
		p.scriptStarts(m, add)
	}
	for rel := range p.tree.others {
		if path.Base(rel) == "Procfile" {
			p.procfile(rel, add)
		}
	}
	if len(found) == 0 {
		for _, m := range p.packages {
			if f, ok := p.entryFile(m.dir, m.Main); ok && m.Main != "" {
				add(path.Base(f), f)
			}
		}
	}
	if len(found) > 0 {
		return found, "package.json and Procfile"
	}
	if roots := p.roots(); len(roots) > 0 {
		return []start{{"application", roots}}, "no entry point was found, so every file that no other imports is taken for part of one process"
	}
	return nil, "there is no script"
}

func (p *project) asked(list []string) []start {
	var out []start
	for _, e := range list {
		e = strings.TrimPrefix(path.Clean(strings.ReplaceAll(e, "\\", "/")), "./")
		if f, ok := p.candidate(e); ok {
			out = append(out, start{path.Base(f), []string{f}})
			continue
		}
		var files []string
		for rel := range p.requires {
			if ok, _ := path.Match(e, rel); ok {
				files = append(files, rel)
			}
		}
		slices.Sort(files)
		for _, f := range files {
			out = append(out, start{path.Base(f), []string{f}})
		}
	}
	return out
}

// scriptStarts finds the files that npm scripts and bin run in production.
func (p *project) scriptStarts(m *manifest, add func(name, file string)) {
	var names []string
	for name := range m.Scripts {
		if runs(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		p.commandStarts(m.dir, name, m.Scripts[name], add)
	}
	var one string
	var many map[string]string
	if json.Unmarshal(m.Bin, &one) == nil {
		many = map[string]string{m.Name: one}
	} else if json.Unmarshal(m.Bin, &many) != nil {
		return
	}
	for name, file := range many {
		if f, ok := p.entryFile(m.dir, file); ok {
			add(name, f)
		}
	}
}

// runs reports the scripts that start something for good, rather than build, test or watch it.
func runs(name string) bool {
	for _, not := range []string{"dev", "watch", "debug", "test", "build", "lint", "migrat", "seed"} {
		if strings.Contains(name, not) {
			return false
		}
	}
	for _, is := range []string{"start", "serve", "worker", "web", "queue", "cron"} {
		if name == is || strings.HasPrefix(name, is+":") || strings.HasPrefix(name, is+"-") || strings.HasSuffix(name, ":"+is) {
			return true
		}
	}
	return false
}

func (p *project) commandStarts(dir, name, command string, add func(name, file string)) {
	words := strings.Fields(command)
	for i, w := range words {
		w = strings.Trim(w, `"'`)
		if w == "nest" && i+1 < len(words) && words[i+1] == "start" {
			w = "src/main"
		} else if strings.HasPrefix(w, "-") || !strings.ContainsAny(w, "./") {
			continue
		}
		if f, ok := p.entryFile(dir, w); ok {
			add(name, f)
			return
		}
	}
}

func (p *project) procfile(rel string, add func(name, file string)) {
	src, err := p.read(rel)
	if err != nil {
		return
	}
	for line := range strings.SplitSeq(string(src), "\n") {
		if name, command, ok := strings.Cut(line, ":"); ok {
			p.commandStarts(path.Dir(rel), strings.TrimSpace(name), command, add)
		}
	}
}

// entryFile finds the source of a file that is run, perhaps as it is after a build.
func (p *project) entryFile(dir, file string) (string, bool) {
	rel := joinPath(dir, file)
	if f, ok := p.candidate(rel); ok {
		return f, true
	}
	local := strings.TrimPrefix(path.Clean(file), "./")
	first, rest, ok := strings.Cut(local, "/")
	if !ok || !generated(first) {
		return "", false
	}
	for _, to := range []string{"src/" + rest, rest} {
		if f, ok := p.candidate(joinPath(dir, to)); ok {
			return f, true
		}
	}
	// dist/src/main.js
	return p.candidate(joinPath(dir, strings.TrimPrefix(rest, "src/")))
}
