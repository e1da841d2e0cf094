package source

import (
	"encoding/json"
	"path"
	"strings"
)

// A pathRule is one entry of compilerOptions.paths, or a baseUrl.
type pathRule struct {
	scope   string // the directory of the tsconfig
	pattern string // "@app/*"; "*" for a baseUrl
	targets []string
}

// resolve returns the script that a name in another script stands for.
func (p *project) resolve(from, spec string) (string, bool) {
	if strings.HasPrefix(spec, ".") {
		return p.candidate(joinPath(path.Dir(from), spec))
	}
	for _, r := range p.paths {
		if r.scope != "." && !strings.HasPrefix(from, r.scope+"/") {
			continue
		}
		if star, ok := matchPath(r.pattern, spec); ok {
			for _, t := range r.targets {
				if to, ok := p.candidate(joinPath(r.scope, strings.Replace(t, "*", star, 1))); ok {
					return to, true
				}
			}
		}
	}
	for _, m := range p.packages {
		if m.Name == "" || (spec != m.Name && !strings.HasPrefix(spec, m.Name+"/")) {
			continue
		}
		sub := strings.TrimPrefix(strings.TrimPrefix(spec, m.Name), "/")
		tries := []string{joinPath(m.dir, sub), joinPath(m.dir, "src/"+sub)}
		if sub == "" {
			tries = []string{joinPath(m.dir, m.Main), joinPath(m.dir, "src"), joinPath(m.dir, "lib"), m.dir}
		}
		for _, t := range tries {
			if to, ok := p.candidate(t); ok {
				return to, true
			}
		}
	}
	return "", false
}

func matchPath(pattern, spec string) (star string, ok bool) {
	before, after, wild := strings.Cut(pattern, "*")
	if !wild {
		return "", pattern == spec
	}
	if len(spec) < len(before)+len(after) || !strings.HasPrefix(spec, before) || !strings.HasSuffix(spec, after) {
		return "", false
	}
	return spec[len(before) : len(spec)-len(after)], true
}

// candidate tries a path as a file, with the extensions of scripts, as a directory, and as the
// JavaScript that a TypeScript file becomes.
func (p *project) candidate(base string) (string, bool) {
	if p.files[base] {
		return base, true
	}
	extensions := []string{".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs"}
	for _, e := range extensions {
		if p.files[base+e] {
			return base + e, true
		}
	}
	for _, e := range extensions {
		if f := joinPath(base, "index"+e); p.files[f] {
			return f, true
		}
	}
	for js, ts := range map[string][]string{".js": {".ts", ".tsx"}, ".mjs": {".mts"}, ".cjs": {".cts"}, ".jsx": {".tsx"}} {
		stem, ok := strings.CutSuffix(base, js)
		for _, e := range ts {
			if ok && p.files[stem+e] {
				return stem + e, true
			}
		}
	}
	return "", false
}

// readConfigs takes paths and baseUrl from every tsconfig.json.
func (p *project) readConfigs() {
	for _, rel := range p.tree.configs {
		src, err := p.read(rel)
		if err != nil {
			continue
		}
		var c struct {
			CompilerOptions struct {
				BaseURL string              `json:"baseUrl"`
				Paths   map[string][]string `json:"paths"`
			} `json:"compilerOptions"`
		}
		if json.Unmarshal(stripComments(src), &c) != nil {
			continue
		}
		dir := path.Dir(rel)
		base := c.CompilerOptions.BaseURL
		for pattern, targets := range c.CompilerOptions.Paths {
			r := pathRule{scope: dir, pattern: pattern}
			for _, t := range targets {
				r.targets = append(r.targets, path.Join(base, t))
			}
			p.paths = append(p.paths, r)
		}
		if base != "" {
			p.paths = append(p.paths, pathRule{scope: dir, pattern: "*", targets: []string{path.Join(base, "*")}})
		}
	}
}

// stripComments blanks comments and the comma before a closing bracket, outside of strings.
func stripComments(src []byte) []byte {
	out := make([]byte, 0, len(src))
	comma := -1
	for i := 0; i < len(src); i++ {
		c := src[i]
		switch {
		case c == '"':
			end := i + 1
			for end < len(src) && src[end] != '"' {
				if src[end] == '\\' {
					end++
				}
				end++
			}
			end = min(end+1, len(src))
			out, comma = append(out, src[i:end]...), -1
			i = end - 1
		case c == '/' && i+1 < len(src) && src[i+1] == '/':
			for i < len(src) && src[i] != '\n' {
				i++
			}
		case c == '/' && i+1 < len(src) && src[i+1] == '*':
			end := strings.Index(string(src[i+2:]), "*/")
			if end < 0 {
				return out
			}
			i += end + 3
		case c == ',':
			comma = len(out)
			out = append(out, c)
		case c == '}' || c == ']':
			if comma >= 0 {
				out[comma] = ' '
			}
			out, comma = append(out, c), -1
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			out = append(out, c)
		default:
			out, comma = append(out, c), -1
		}
	}
	return out
}
