// Package script turns TypeScript and JavaScript into a syntax tree whose nodes know their place in
// the original file. esbuild takes away types, JSX and module syntax; goja's parser reads the plain
// JavaScript that is left. Neither runs anything.
package script

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/parser"
	"github.com/evanw/esbuild/pkg/api"
)

// maxAwaits bounds how many awaits outside a function are taken out of one file, one per attempt.
const maxAwaits = 64

// A File is one parsed source file.
type File struct {
	Program *ast.Program

	lines    []string
	mappings []mapping
	starts   []int32 // where each generated line begins, in bytes
}

// A SyntaxError says where a file stops being TypeScript or JavaScript.
type SyntaxError struct {
	Line, Column int // from 1; 0 when unknown
	Text         string
}

// Error returns the text with its place.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Text) }

// Loads reports whether the name is that of a file Parse can read; declarations of types are not.
func Loads(name string) bool {
	_, ok := loader(name)
	return ok
}

func loader(name string) (api.Loader, bool) {
	for _, declares := range []string{".d.ts", ".d.mts", ".d.cts"} {
		if strings.HasSuffix(name, declares) {
			return api.LoaderNone, false
		}
	}
	switch filepath.Ext(name) {
	case ".ts", ".mts", ".cts":
		return api.LoaderTS, true
	case ".tsx":
		return api.LoaderTSX, true
	case ".js", ".jsx", ".mjs", ".cjs":
		return api.LoaderJSX, true
	}
	return api.LoaderNone, false
}

// Requires returns what a file imports, in any syntax, in the order of the text and perhaps with
// names that only look like imports. It does not build a tree.
func Requires(name string, src []byte) ([]string, error) {
	code, _, err := transform(name, src, api.SourceMapNone, true)
	if err != nil {
		return nil, err
	}
	// esbuild writes every import in one way.
	const call = `require("`
	var out []string
	for rest := string(code); ; {
		i := strings.Index(rest, call)
		if i < 0 {
			return out, nil
		}
		rest = rest[i+len(call):]
		end := strings.IndexByte(rest, '"')
		if end < 0 {
			return out, nil
		}
		out = append(out, strings.Clone(rest[:end]))
	}
}

// Parse returns the tree of a file. An error is a *SyntaxError.
func Parse(name string, src []byte) (*File, error) {
	f, err := parseAs(name, src, true)
	if err != nil {
		// The parser does not read every class field, such as one that is called get.
		if lowered, err := parseAs(name, src, false); err == nil {
			return lowered, nil
		}
	}
	return f, err
}

// parseAs parses a file with its class fields as they are, or as what a constructor does.
func parseAs(name string, src []byte, fields bool) (*File, error) {
	code, sourceMap, err := transform(name, src, api.SourceMapExternal, fields)
	if err != nil {
		return nil, err
	}
	f := &File{lines: strings.Split(string(src), "\n"), starts: lineStarts(code)}
	if f.mappings, err = decodeMap(sourceMap); err != nil {
		return nil, &SyntaxError{Text: err.Error()}
	}
	if f.Program, err = parse(name, string(code)); err != nil {
		return nil, f.place(err)
	}
	return f, nil
}

// parse keeps a parser that gives up on odd input by panicking from ending the process.
func parse(name, code string) (program *ast.Program, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the parser gave up: %v", p)
		}
	}()
	return parser.ParseFile(nil, name, code, parser.IgnoreRegExpErrors, parser.WithDisableSourceMaps)
}

// place turns an error in generated code into one in the original.
func (f *File) place(err error) error {
	out := &SyntaxError{Text: err.Error()}
	if list, ok := errors.AsType[parser.ErrorList](err); ok && len(list) > 0 {
		out.Text = list[0].Message
		if p := list[0].Position; p.Line > 0 {
			out.Line, out.Column, _ = f.original(p.Line-1, p.Column-1)
		}
	}
	return out
}

// transform makes plain JavaScript in the CommonJS way of a file. What goja's parser reads is left as
// it is, so that little is rewritten.
func transform(name string, src []byte, sourceMap api.SourceMap, fields bool) (code, mapped []byte, err error) {
	load, ok := loader(name)
	if !ok {
		return nil, nil, &SyntaxError{Text: "not a script"}
	}
	text := string(src)
	for range maxAwaits {
		r := api.Transform(text, api.TransformOptions{
			Loader: load, Target: api.ES2017, Format: api.FormatCommonJS, Sourcefile: name,
			Sourcemap: sourceMap, SourcesContent: api.SourcesContentExclude, LogLevel: api.LogLevelSilent,
			TsconfigRaw: `{"compilerOptions":{"experimentalDecorators":true}}`,
			Supported: map[string]bool{
				"object-rest-spread": true, "optional-chain": true, "nullish-coalescing": true, "optional-catch-binding": true,
				"class-field": fields, "class-static-field": fields, "class-private-field": fields, "class-private-method": fields,
				"class-private-static-field": fields, "class-private-static-method": fields, "logical-assignment": true,
				"dynamic-import": false,
			},
		})
		if len(r.Errors) == 0 {
			return r.Code, r.Map, nil
		}
		if text, ok = withoutAwait(text, r.Errors); !ok {
			return nil, nil, syntaxError(r.Errors[0])
		}
	}
	return nil, nil, &SyntaxError{Text: "too many awaits outside a function"}
}

// withoutAwait blanks the awaits that esbuild refused because a CommonJS module cannot wait.
func withoutAwait(text string, errs []api.Message) (string, bool) {
	const await = "await"
	found := false
	for _, e := range errs {
		l := e.Location
		if l == nil || !strings.Contains(e.Text, await) {
			continue
		}
		at := 0
		for range l.Line - 1 {
			next := strings.IndexByte(text[at:], '\n')
			if next < 0 {
				return text, false
			}
			at += next + 1
		}
		at += l.Column
		if at <= len(text) && strings.HasPrefix(text[at:], await) {
			text = text[:at] + "     " + text[at+len(await):]
			found = true
		}
	}
	return text, found
}

func syntaxError(m api.Message) *SyntaxError {
	e := &SyntaxError{Text: m.Text}
	if l := m.Location; l != nil {
		e.Line = l.Line
		e.Column = 1 + utf8.RuneCountInString(l.LineText[:min(max(l.Column, 0), len(l.LineText))])
	}
	return e
}

// Position returns line and column, from 1 and in characters, of a node's first character in the
// original file. It is not ok for code that esbuild added.
func (f *File) Position(at file.Idx) (line, column int, ok bool) {
	offset := int32(at) - 1 //nolint:gosec // files are refused long before 2 GiB
	generated := search(f.starts, offset)
	if generated < 0 {
		return 0, 0, false
	}
	return f.original(generated, int(offset-f.starts[generated]))
}

func (f *File) original(generated, column int) (line, col int, ok bool) {
	m, ok := find(f.mappings, generated, column)
	if !ok || int(m.line) >= len(f.lines) {
		return 0, 0, false
	}
	return int(m.line) + 1, characters(f.lines[m.line], int(m.column)) + 1, true
}

// Line returns a line of the original file, from 1, without its line break.
func (f *File) Line(n int) string {
	if n < 1 || n > len(f.lines) {
		return ""
	}
	return strings.TrimSuffix(f.lines[n-1], "\r")
}

// Lines is the number of lines of the original file.
func (f *File) Lines() int { return len(f.lines) }

// characters converts a column in UTF-16 units, which is what source maps count in.
func characters(line string, units int) int {
	n := 0
	for _, r := range line {
		if units <= 0 {
			break
		}
		units -= max(1, utf16.RuneLen(r))
		n++
	}
	return n
}
