package source

import "strings"

// stringMethod runs the methods of strings that code builds names with.
func stringMethod(s, key string, c call) (value, bool) {
	first, isText := c.arg(0).(string)
	switch key {
	case "toUpperCase", "toLocaleUpperCase":
		return strings.ToUpper(s), true
	case "toLowerCase", "toLocaleLowerCase":
		return strings.ToLower(s), true
	case "trim":
		return strings.TrimSpace(s), true
	case "toString", "valueOf":
		return s, true
	}
	if !isText {
		switch key {
		case "includes", "startsWith", "endsWith", "split", "replace", "replaceAll", "concat", "slice", "substring", "match", "test":
			return &unknown{}, true
		}
		return nil, false
	}
	switch key {
	case "includes":
		return strings.Contains(s, first), true
	case "startsWith":
		return strings.HasPrefix(s, first), true
	case "endsWith":
		return strings.HasSuffix(s, first), true
	case "concat":
		return s + first, true
	case "split":
		a := &array{}
		for part := range strings.SplitSeq(s, first) {
			a.items = append(a.items, part)
		}
		return a, true
	case "replace", "replaceAll":
		to, ok := c.arg(1).(string)
		if !ok {
			return &unknown{}, true
		}
		if key == "replace" {
			return strings.Replace(s, first, to, 1), true
		}
		return strings.ReplaceAll(s, first, to), true
	}
	return &unknown{}, true
}
