package tend

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of a filter's text.
const (
	maxFilterBytes = 4096
	maxFilterTerms = 32
)

// A Filter is what a job must meet: all of its terms. The zero Filter is met by every job. It is safe
// for concurrent use.
type Filter struct {
	text  string
	terms []term
}

// A term is one condition: a field, how to compare, and with what.
type term struct {
	field  string // as in Fields; "data" for a path
	path   []string
	op     string
	text   string
	re     *regexp.Regexp
	number float64
	exact  bool // number is the whole of text
	length time.Duration
}

// The kinds of fields, which say how a field can be compared.
type kind int

const (
	words kind = iota
	numbers
	durations
	values // words, and numbers where both sides are
)

// fields are the fields a filter knows, in the order they are listed.
func fields() []struct {
	name string
	kind kind
} {
	return []struct {
		name string
		kind kind
	}{
		{"id", words},
		{"name", words},
		{"reason", words},
		{"band", words},
		{"age", durations},
		{"finished", durations},
		{"due", durations},
		{"attempts", numbers},
		{"priority", numbers},
	}
}

func (k kind) ops() []string {
	switch k {
	case words:
		return []string{"=", "!=", "~", "!~"}
	case numbers:
		return []string{"=", "!=", ">", ">=", "<", "<="}
	case durations:
		return []string{">", ">=", "<", "<="}
	case values:
	}
	return []string{"=", "!=", "~", "!~", ">", ">=", "<", "<="}
}

// ParseFilter reads terms separated by commas: name=send,age>1h,reason~timeout,data.userId=42. Every
// problem is in the error, each with the term it is about. Empty text is the filter that every job
// meets.
//
//	id name reason band     = != ~ !~ ; ~ is a regular expression found anywhere (RE2)
//	age finished due        > >= < <= with a duration: 90s, 1h30m, 2d, 1w
//	attempts priority       = != > >= < <= with a number
//	data.user.id            all of them; numbers are compared as numbers; data.items.0 is an element
//
// A value with a comma, a quote or spaces at its ends stands in double quotes, with \" and \\ inside.
// A job that has no such field meets no term about it but != and !~.
func ParseFilter(text string) (Filter, error) {
	f := Filter{text: text}
	if strings.TrimSpace(text) == "" {
		return Filter{}, nil
	}
	if len(text) > maxFilterBytes {
		return Filter{}, fmt.Errorf("filter: got %d bytes, want at most %d", len(text), maxFilterBytes)
	}
	parts, err := splitTerms(text)
	if err != nil {
		return Filter{}, err
	}
	if len(parts) > maxFilterTerms {
		return Filter{}, fmt.Errorf("filter: got %d terms, want at most %d", len(parts), maxFilterTerms)
	}
	var errs []error
	for i, part := range parts {
		t, err := parseTerm(part)
		if err != nil {
			errs = append(errs, fmt.Errorf("filter term %d %q: %w", i+1, part, err))
			continue
		}
		f.terms = append(f.terms, t)
	}
	if err := errors.Join(errs...); err != nil {
		return Filter{}, err
	}
	return f, nil
}

// String is the text the filter was made of.
func (f Filter) String() string { return f.text }

// splitTerms cuts text at the commas that stand outside of quotes.
func splitTerms(text string) ([]string, error) {
	var parts []string
	begin, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch {
		case quoted && text[i] == '\\':
			i++
		case text[i] == '"':
			quoted = !quoted
		case text[i] == ',' && !quoted:
			parts = append(parts, strings.TrimSpace(text[begin:i]))
			begin = i + 1
		}
	}
	if quoted {
		return nil, fmt.Errorf("filter: a quote is opened and not closed in %q", text[begin:])
	}
	return append(parts, strings.TrimSpace(text[begin:])), nil
}

func parseTerm(part string) (term, error) {
	if part == "" {
		return term{}, errors.New("empty; want FIELD OPERATOR VALUE, as in name=send")
	}
	at := strings.IndexAny(part, "=!~<>")
	if at < 0 {
		return term{}, errors.New("no operator; want FIELD OPERATOR VALUE, as in name=send or age>1h")
	}
	name, rest := strings.TrimSpace(part[:at]), part[at:]
	t := term{field: name}
	k, err := t.setField(name)
	if err != nil {
		return term{}, err
	}
	for _, op := range []string{"!=", "!~", ">=", "<=", "=", "~", ">", "<"} {
		if strings.HasPrefix(rest, op) {
			t.op = op
			break
		}
	}
	if t.op == "" {
		return term{}, errors.New("! alone is no operator; want != or !~")
	}
	if !slices.Contains(k.ops(), t.op) {
		return term{}, fmt.Errorf("%s cannot be compared with %s; want one of %s", name, t.op, strings.Join(k.ops(), " "))
	}
	value, err := parseValue(strings.TrimSpace(rest[len(t.op):]))
	if err != nil {
		return term{}, err
	}
	t.text = value
	return t, t.setValue(k)
}

// setField says what kind of field name is.
func (t *term) setField(name string) (kind, error) {
	if path, ok := strings.CutPrefix(name, "data."); ok {
		t.field, t.path = "data", strings.Split(path, ".")
		if slices.Contains(t.path, "") {
			return 0, errors.New("a part of the path is empty; want data.user.id")
		}
		return values, nil
	}
	names := []string{}
	for _, f := range fields() {
		if f.name == name {
			return f.kind, nil
		}
		names = append(names, f.name)
	}
	if name == "data" {
		return 0, errors.New("say which part of data: data.user.id")
	}
	return 0, fmt.Errorf("no field %q; fields are %s and data.PATH", name, strings.Join(names, ", "))
}

func parseValue(raw string) (string, error) {
	switch {
	case raw == "":
		return "", errors.New(`no value; "" in quotes is the empty text`)
	case raw[0] == '"':
		var b strings.Builder
		for i := 1; i < len(raw); i++ {
			switch c := raw[i]; {
			case c == '"' && i == len(raw)-1:
				return b.String(), nil
			case c == '"':
				return "", errors.New("there is text after the closing quote")
			case c == '\\' && i+1 < len(raw) && (raw[i+1] == '"' || raw[i+1] == '\\'):
				i++
				b.WriteByte(raw[i])
			default:
				b.WriteByte(c)
			}
		}
		return "", errors.New("the quote is not closed")
	case strings.IndexByte(raw, '"') >= 0:
		return "", errors.New(`a quote stands inside; put the whole value in quotes and write \" for it`)
	case strings.IndexAny(raw[:1], "=~<>") == 0:
		return "", fmt.Errorf("the value begins with %q; write the operator once, or quote the value", raw[:1])
	}
	return raw, nil
}

// setValue reads the value as the field and the operator want it.
func (t *term) setValue(k kind) error {
	if t.op == "~" || t.op == "!~" {
		re, err := regexp.Compile(t.text)
		if err != nil {
			return fmt.Errorf("no regular expression: %w", err)
		}
		t.re = re
		return nil
	}
	if k == durations {
		d, err := ParseDuration(t.text)
		t.length = d
		return err
	}
	n, err := strconv.ParseFloat(t.text, 64)
	if t.exact = err == nil && n == n && n-n == 0; t.exact { // neither NaN nor infinite
		t.number = n
	} else if k == numbers || (k == values && t.op != "=" && t.op != "!=") {
		return fmt.Errorf("got %q, want a number", t.text)
	}
	return nil
}

// ParseDuration reads a duration of Go's form, and days and weeks besides: 90s, 1h30m, 2d, 1w.
func ParseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf("got %q, want a duration of 0 or more such as 90s, 1h30m, 2d or 1w", text)
	rest, total := text, time.Duration(0)
	if text == "0" {
		return 0, nil
	}
	for rest != "" {
		digits := strings.IndexFunc(rest, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
		if digits <= 0 {
			return 0, bad
		}
		unit := rest[digits:]
		if end := strings.IndexAny(unit, ".0123456789"); end >= 0 {
			unit = unit[:end]
		}
		piece := rest[:digits] + unit
		rest = rest[len(piece):]
		scale := time.Duration(1)
		switch unit {
		case "d":
			piece, scale = strings.TrimSuffix(piece, "d")+"h", 24
		case "w":
			piece, scale = strings.TrimSuffix(piece, "w")+"h", 7*24
		}
		d, err := time.ParseDuration(piece)
		const most = time.Duration(1<<63 - 1)
		if err != nil || d > most/scale || total > most-d*scale {
			return 0, bad
		}
		total += d * scale
	}
	if text == "" {
		return 0, bad
	}
	return total, nil
}
