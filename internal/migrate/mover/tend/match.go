package tend

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Match says whether j meets every term at the time now.
func (f Filter) Match(j *Job, now time.Time) bool {
	var data any
	read := false
	for i := range f.terms {
		t := &f.terms[i]
		if t.field == "data" && !read {
			dec := json.NewDecoder(bytes.NewReader(j.Data))
			dec.UseNumber()
			if dec.Decode(&data) != nil {
				data = nil
			}
			read = true
		}
		if !t.match(j, data, now) {
			return false
		}
	}
	return true
}

func (t *term) match(j *Job, data any, now time.Time) bool {
	switch t.field {
	case "id":
		return t.word(j.ID, true)
	case "name":
		return t.word(j.Name, !j.Hollow)
	case "reason":
		return t.word(j.Reason, j.Reason != "")
	case "band":
		return t.word(j.Band, true)
	case "age":
		return t.since(j.AddedMS, now)
	case "finished":
		return t.since(j.FinishedMS, now)
	case "due":
		return j.DueMS > 0 && t.compare(float64(time.UnixMilli(j.DueMS).Sub(now)), float64(t.length))
	case "attempts":
		return !j.Hollow && t.compare(float64(j.Attempts), t.number)
	case "priority":
		return !j.Hollow && t.compare(float64(j.Priority), t.number)
	}
	text, number, isNumber, found := lookUp(data, t.path)
	equality := t.op == "=" || t.op == "!="
	asText := equality && whole(text) && whole(t.text) // 2^53 and 2^53+1 are one float
	if found && t.exact && isNumber && t.re == nil && !asText {
		return t.compare(number, t.number)
	}
	if !equality && t.re == nil {
		return false // a number was asked for, and there is none
	}
	return t.word(text, found)
}

// whole says whether text is a whole number in its only form.
func whole(text string) bool {
	digits := strings.TrimPrefix(text, "-")
	return digits != "" && strings.Trim(digits, "0123456789") == "" && (digits[0] != '0' || text == "0")
}

// word compares text. What is not there meets only the operators that deny.
func (t *term) word(text string, there bool) bool {
	switch t.op {
	case "=":
		return there && text == t.text
	case "!=":
		return !there || text != t.text
	case "~":
		return there && t.re.MatchString(text)
	case "!~":
		return !there || !t.re.MatchString(text)
	}
	return false
}

// since compares how long ago ms was; an unknown time meets no term.
func (t *term) since(ms int64, now time.Time) bool {
	return ms > 0 && t.compare(float64(now.Sub(time.UnixMilli(ms))), float64(t.length))
}

func (t *term) compare(a, b float64) bool {
	switch t.op {
	case "=":
		return a == b
	case "!=":
		return a != b
	case ">":
		return a > b
	case ">=":
		return a >= b
	case "<":
		return a < b
	case "<=":
		return a <= b
	}
	return false
}

// lookUp follows path through decoded JSON to a scalar.
func lookUp(at any, path []string) (text string, number float64, isNumber, found bool) {
	for _, part := range path {
		switch v := at.(type) {
		case map[string]any:
			inner, ok := v[part]
			if !ok {
				return "", 0, false, false
			}
			at = inner
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(v) {
				return "", 0, false, false
			}
			at = v[i]
		default:
			return "", 0, false, false
		}
	}
	switch v := at.(type) {
	case string:
		return v, 0, false, true
	case bool:
		return strconv.FormatBool(v), 0, false, true
	case json.Number:
		n, err := v.Float64()
		return v.String(), n, err == nil, true
	case nil:
		return "null", 0, false, true
	}
	return "", 0, false, false // an object or a list is no value
}

// needs are the parts of a job that something wants to know.
type needs struct {
	hash bool // anything of the job's hash
	data bool
	all  bool // every field of the hash
}

// needs says what of a job must be read to decide whether it meets f.
func (f Filter) needs() needs {
	var n needs
	for i := range f.terms {
		switch f.terms[i].field {
		case "id", "band":
		case "data":
			n.hash, n.data = true, true
		default:
			n.hash = true
		}
	}
	return n
}
