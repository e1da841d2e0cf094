package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFileBytes bounds a configuration file. A large one has some hundred lines.
const maxFileBytes = 1 << 20

// A fileReader sets the values of one file and collects what is wrong with it.
type fileReader struct {
	path     string
	origins  map[string]Origin
	problems []*Problem
}

func (r *fileReader) bad(key string, n *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, &Problem{Key: key, Origin: r.at(n), Message: fmt.Sprintf(format, args...)})
}

func (r *fileReader) at(n *yaml.Node) Origin {
	o := Origin{Kind: FromFile, Path: r.path}
	if n != nil {
		o.Line, o.Column = n.Line, n.Column
	}
	return o
}

// read sets in c what text says. An empty file, or one of comments only, says nothing.
func (r *fileReader) read(c *Config, text []byte) {
	if len(text) > maxFileBytes {
		r.bad("", nil, "is %d bytes long, want at most %d", len(text), maxFileBytes)
		return
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return
	case err != nil:
		r.syntax(err)
		return
	}
	var second yaml.Node
	if err := decoder.Decode(&second); err == nil {
		r.bad("", &second, "a second document begins here; put everything into one")
	} else if !errors.Is(err, io.EOF) {
		r.syntax(err)
	}
	if len(document.Content) == 0 || isNull(document.Content[0]) {
		return
	}
	r.value("", document.Content[0], reflect.ValueOf(c).Elem(), "")
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntax reports what the YAML parser says, with the line taken out of its message.
func (r *fileReader) syntax(err error) {
	text := err.Error()
	at := Origin{Kind: FromFile, Path: r.path}
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		at.Line, _ = strconv.Atoi(m[1])
		at.Column = min(1, at.Line)
		text = text[len(m[0]):]
	}
	r.problems = append(r.problems, &Problem{Origin: at, Message: "not valid YAML: " + text})
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// value sets v, which key names, to what n says.
func (r *fileReader) value(key string, n *yaml.Node, v reflect.Value, tag reflect.StructTag) {
	switch {
	case n.Kind == yaml.AliasNode:
		r.bad(key, n, "anchors and aliases (*%s) are not supported; write the value out", printable(n.Value))
	case isNull(n):
		r.bad(key, n, "has no value; remove it, or indent what belongs to it below it")
	case v.Kind() == reflect.Struct:
		r.structure(key, n, v)
	case v.Kind() == reflect.Map:
		r.mapping(key, n, v, tag)
	case v.Kind() == reflect.Slice:
		r.list(key, n, v, tag)
	case n.Kind != yaml.ScalarNode:
		r.bad(key, n, "want one value, not a %s", kindName(n))
	default:
		if err := set(v, n.Value, tag); err != nil {
			r.bad(key, n, "%s", flat(err))
		}
		r.origins[key] = r.at(n)
	}
}

// flat is err on one line.
func flat(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func (r *fileReader) structure(key string, n *yaml.Node, v reflect.Value) {
	known := fields(v.Type())
	r.place(key, n)
	r.pairs(key, n, func(name string, nameNode, value *yaml.Node) {
		for _, f := range known {
			if f.name == name {
				r.value(join(key, name), value, v.Field(f.index), f.tag)
				return
			}
		}
		r.bad(join(key, printable(name)), nameNode, "unknown key%s", meant(suggest(name, names(known))))
	})
}

func (r *fileReader) mapping(key string, n *yaml.Node, v reflect.Value, tag reflect.StructTag) {
	r.place(key, n)
	r.pairs(key, n, func(name string, nameNode, value *yaml.Node) {
		if !validName.MatchString(name) {
			r.bad(key, nameNode, "name %s: want 1 to 64 letters, digits, dots, hyphens and underscores", quote(name))
			return
		}
		// A map's elements cannot be set in place: change a copy, which begins as the default of
		// this name if there is one.
		element := reflect.New(v.Type().Elem()).Elem()
		if old := v.MapIndex(reflect.ValueOf(name)); old.IsValid() {
			element.Set(old)
		}
		r.value(join(key, name), value, element, tag)
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		v.SetMapIndex(reflect.ValueOf(name), element)
	})
}

var validName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// pairs calls f for every key of the mapping n. A key that stands twice is reported, not overwritten.
func (r *fileReader) pairs(key string, n *yaml.Node, f func(name string, nameNode, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.bad(key, n, "want keys with values, not a %s", kindName(n))
		return
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		nameNode, value := n.Content[i], n.Content[i+1]
		switch first := lines[nameNode.Value]; {
		case nameNode.Kind != yaml.ScalarNode:
			r.bad(key, nameNode, "a key must be a name, not a %s", kindName(nameNode))
		case nameNode.Tag == "!!merge":
			r.bad(key, nameNode, "merge keys (<<) are not supported; write the values out")
		case first > 0:
			r.bad(join(key, printable(nameNode.Value)), nameNode, "is set twice, first in line %d", first)
		default:
			lines[nameNode.Value] = nameNode.Line
			f(nameNode.Value, nameNode, value)
		}
	}
}

func (r *fileReader) list(key string, n *yaml.Node, v reflect.Value, tag reflect.StructTag) {
	if n.Kind != yaml.SequenceNode {
		r.bad(key, n, "want a list, not a %s", kindName(n))
		return
	}
	all := reflect.MakeSlice(v.Type(), 0, len(n.Content))
	for i, item := range n.Content {
		element := reflect.New(v.Type().Elem()).Elem()
		r.value(fmt.Sprintf("%s[%d]", key, i), item, element, tag)
		all = reflect.Append(all, element)
	}
	v.Set(all)
	r.origins[key] = r.at(n)
}

// place remembers where a section is, for problems with what is missing in it.
func (r *fileReader) place(key string, n *yaml.Node) {
	if key != "" {
		r.origins[key] = r.at(n)
	}
}

func kindName(n *yaml.Node) string {
	switch n.Kind { //nolint:exhaustive // nothing else stands inside a document
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	case yaml.ScalarNode:
		return "single value"
	default:
		return "document"
	}
}

// quote is s as it may stand in a message: on one line, without control characters, and short.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strconv.Quote(s)
}

// printable is quote without the quotation marks, for names.
func printable(s string) string {
	quoted := quote(s)
	return quoted[1 : len(quoted)-1]
}
