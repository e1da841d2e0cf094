package cache

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	maxKeyBytes = 1024
	tagMark     = "~tag:" // no namespace can begin like this
)

// KeyOf joins a namespace and parts into a key. Each part is escaped, so that no id can pretend to be
// two parts or a pattern: KeyOf("user", "a:b*", "profile") is "user:a%3Ab%2A:profile". An empty part is
// kept, and refused where the key is used.
func KeyOf(namespace string, parts ...string) string {
	var b strings.Builder
	b.WriteString(Escape(namespace))
	for _, part := range parts {
		b.WriteByte(':')
		b.WriteString(Escape(part))
	}
	return b.String()
}

// Escape makes any text usable as one part of a key, tag or pattern: what has a meaning there, blanks,
// control characters and bytes that are not UTF-8 become %XX.
func Escape(part string) string {
	const hex = "0123456789ABCDEF"
	clean := true
	for i := range len(part) {
		if part[i] == ':' || part[i] == '%' || special(part[i]) || part[i] >= utf8.RuneSelf {
			clean = false
			break
		}
	}
	if clean {
		return part
	}
	var b strings.Builder
	for i := 0; i < len(part); {
		r, size := utf8.DecodeRuneInString(part[i:])
		switch c := part[i]; {
		case r >= utf8.RuneSelf && (r != utf8.RuneError || size > 1):
			b.WriteString(part[i : i+size])
		case c == ':' || c == '%' || special(c) || c >= utf8.RuneSelf:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		default:
			b.WriteByte(c)
		}
		i += size
	}
	return b.String()
}

// special is whether c means something to Redis' patterns or Cluster, or is no visible character.
func special(c byte) bool {
	return c <= ' ' || c == 0x7f || strings.IndexByte(`*?[]\{}"`, c) >= 0
}

// plainPart is whether s consists of letters, digits, - _ and dots.
func plainPart(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return s != ""
}

// checkSpelling says what is wrong with text as a key or tag, or as a pattern, in which stars are
// allowed.
func checkSpelling(text string, stars bool) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w %q: %s", ErrKey, shorten(text), fmt.Sprintf(format, args...))
	}
	if text == "" || len(text) > maxKeyBytes {
		return bad("it has %d bytes, want 1 to %d", len(text), maxKeyBytes)
	}
	if !utf8.ValidString(text) {
		return bad("it is not UTF-8, escape the part")
	}
	empty := true // the part so far
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == ':':
			if empty {
				return bad("a part is empty; an id is probably missing")
			}
			empty = true
			continue
		case c == '*' && stars:
		case c == '%':
			if i+2 >= len(text) || !isHex(text[i+1]) || !isHex(text[i+2]) {
				return bad("%% must be followed by two hexadecimal digits, as an escaped part has it")
			}
			i += 2
		case special(c):
			return bad("%q must be escaped, as %%%02X", c, c)
		}
		empty = false
	}
	if empty {
		return bad("a part is empty; an id is probably missing")
	}
	return nil
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'F'
}

func shorten(text string) string {
	if len(text) <= 80 {
		return text
	}
	return strings.ToValidUTF8(text[:77], "") + "..."
}

// An address is a key that has been looked at: whose it is and where it is kept.
type address struct {
	text  string // as the caller spelled it
	store string // in the upstream
	space *space
	owner string // tag of the owner in the upstream, or empty
}

// locate finds where a key is kept.
func (c *Cache) locate(key string) (address, error) {
	name, _, _ := strings.Cut(key, ":")
	sp := c.spaces.find(name)
	if sp.bare {
		if key == "" || len(key) > maxKeyBytes || !utf8.ValidString(key) {
			return address{}, fmt.Errorf("%w %q: want 1 to %d bytes of UTF-8", ErrKey, shorten(key), maxKeyBytes)
		}
		return address{text: key, store: key, space: sp}, nil
	}
	if err := checkSpelling(key, false); err != nil {
		return address{}, err
	}
	if !plainPart(name) {
		return address{}, fmt.Errorf("%w %q: the namespace %q may only have letters, digits, - _ and dots", ErrKey, shorten(key), shorten(name))
	}
	a := address{text: key, space: sp, store: c.root + c.veil(sp, key)}
	if sp.OwnerParts > 0 {
		if owner, ok := leading(a.store[len(c.root):], sp.OwnerParts+1); ok {
			a.owner = c.root + tagMark + owner
		}
	}
	return a, nil
}

// leading is the first n parts of key, if it has as many.
func leading(key string, n int) (string, bool) {
	for i := range len(key) {
		if key[i] == ':' {
			if n--; n == 0 {
				return key[:i], true
			}
		}
	}
	return key, n == 1
}

// tagKey is where the generation of a tag is kept. A tag is spelled like a key, and is veiled when its
// namespace is.
func (c *Cache) tagKey(tag string) (string, error) {
	if err := checkSpelling(tag, false); err != nil {
		return "", fmt.Errorf("tag: %w", err)
	}
	name, _, _ := strings.Cut(tag, ":")
	return c.root + tagMark + c.veil(c.spaces.find(name), tag), nil
}

// veil hides what the parts of a sensitive key say. The namespace stays readable, and equal parts stay
// equal, so that patterns and owners work.
func (c *Cache) veil(sp *space, key string) string {
	if !sp.sensitive {
		return key
	}
	parts := strings.Split(key, ":")
	for i, part := range parts {
		if i == 0 || part == "*" {
			continue
		}
		mac := hmac.New(sha256.New, c.ring.nameSecret)
		mac.Write([]byte(sp.name + "\x00" + part))
		parts[i] = base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
	}
	return strings.Join(parts, ":")
}
