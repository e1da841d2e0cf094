package cache

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode"

	"github.com/vmihailenco/msgpack/v5"
)

// A rule is one entry of Options.Deny, as words.
type rule struct {
	text  string
	words []string
}

func compileDeny(deny []string) []rule {
	var rules []rule
	for _, text := range deny {
		if w := words(text); len(w) > 0 {
			rules = append(rules, rule{text: text, words: w})
		}
	}
	return rules
}

// without is rules less those that allow names.
func without(rules []rule, allow []string) []rule {
	if len(allow) == 0 {
		return rules
	}
	return slices.DeleteFunc(slices.Clone(rules), func(r rule) bool {
		return slices.ContainsFunc(allow, func(a string) bool { return slices.Equal(words(a), r.words) })
	})
}

// words splits a name at capitals and at all that is no letter, without case and plural:
// "accessTokens", "access_token" and "Access-Token" are access, token.
func words(name string) []string {
	var out []string
	var word strings.Builder
	end := func() {
		if w := word.String(); w != "" {
			if len(w) > 3 && !strings.HasSuffix(w, "ss") {
				w = strings.TrimSuffix(w, "s")
			}
			out = append(out, w)
		}
		word.Reset()
	}
	runes := []rune(name)
	for i, r := range runes {
		if !unicode.IsLetter(r) {
			end()
			continue
		}
		if unicode.IsUpper(r) && i > 0 {
			before, after := unicode.IsLower(runes[i-1]), i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if before || after && unicode.IsUpper(runes[i-1]) {
				end()
			}
		}
		word.WriteRune(unicode.ToLower(r))
	}
	end()
	return out
}

// denies returns the first rule that matches name: its words stand side by side in it, or run together.
func denies(rules []rule, name string) (string, bool) {
	var have []string
	for _, r := range rules {
		if have == nil {
			if have = words(name); len(have) == 0 {
				return "", false
			}
		}
		together := strings.Join(r.words, "")
		for i := range have {
			if have[i] == together || len(have)-i >= len(r.words) && slices.Equal(have[i:i+len(r.words)], r.words) {
				return r.text, true
			}
		}
	}
	return "", false
}

// refuse looks for denied names in a key and in the fields of its value.
func (sp *space) refuse(key string, codec Codec, value []byte) error {
	if sp.sensitive || len(sp.deny) == 0 {
		return nil
	}
	for part := range strings.SplitSeq(key, ":") {
		if text, yes := denies(sp.deny, part); yes {
			return &DeniedError{Key: key, Where: "key", Name: shorten(part), Rule: text}
		}
	}
	field, text := "", ""
	switch codec {
	case JSON, IORedisJSON:
		field, text = deniedField(sp.deny, value)
	case Raw:
		if looksLikeJSON(value) {
			field, text = deniedField(sp.deny, value)
		}
	case MsgPack:
		if v, err := msgpack.NewDecoder(bytes.NewReader(value)).DecodeInterfaceLoose(); err == nil {
			field, text = deniedIn(sp.deny, v, "", 0)
		}
	}
	if field == "" {
		return nil
	}
	return &DeniedError{Key: key, Where: "field", Name: shorten(field), Rule: text}
}

func looksLikeJSON(value []byte) bool {
	value = bytes.TrimLeft(value, " \t\r\n")
	return len(value) > 1 && (value[0] == '{' || value[0] == '[') && json.Valid(value)
}

// deniedField returns the path of the first field of a JSON document that a rule matches.
func deniedField(rules []rule, doc []byte) (path, text string) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	type level struct {
		object bool
		name   string // of the field whose value is being read
		key    bool   // the next token is a name
	}
	var stack []level
	done := func() { // a value has ended
		if n := len(stack); n > 0 && stack[n-1].object {
			stack[n-1].key = true
		}
	}
	for {
		tok, err := dec.Token()
		if err != nil {
			return "", "" // its end, or no JSON, which the codec has refused
		}
		switch tok := tok.(type) {
		case json.Delim:
			switch tok {
			case '{', '[':
				stack = append(stack, level{object: tok == '{', key: tok == '{'})
			default:
				stack = stack[:len(stack)-1]
				done()
			}
		case string:
			top := len(stack) - 1
			if top < 0 || !stack[top].key {
				done()
				continue
			}
			stack[top].name, stack[top].key = tok, false
			if text, yes := denies(rules, tok); yes {
				var names []string
				for _, l := range stack {
					if l.object {
						names = append(names, l.name)
					}
				}
				return strings.Join(names, "."), text
			}
		default:
			done()
		}
	}
}

// deniedIn is deniedField for a decoded MessagePack value.
func deniedIn(rules []rule, v any, at string, depth int) (path, text string) {
	if depth > 64 {
		return "", ""
	}
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if text, yes := denies(rules, name); yes {
				return at + name, text
			}
			if path, text := deniedIn(rules, inner, at+name+".", depth+1); path != "" {
				return path, text
			}
		}
	case map[any]any:
		for key, inner := range v {
			name, _ := key.(string)
			if text, yes := denies(rules, name); yes {
				return at + name, text
			}
			if path, text := deniedIn(rules, inner, at+name+".", depth+1); path != "" {
				return path, text
			}
		}
	case []any:
		for _, inner := range v {
			if path, text := deniedIn(rules, inner, at, depth+1); path != "" {
				return path, text
			}
		}
	}
	return "", ""
}
