package cache

import (
	"strings"
	"testing"
)

func TestPatternsMeanParts(t *testing.T) {
	for _, tt := range []struct {
		pattern, key string
		want         bool
	}{
		{"user:*:profile", "user:42:profile", true},
		{"user:*:profile", "user:42:x:profile", false},
		{"user:*:profile", "user:42:profile:photo", false},
		{"user:*:profile", "user::profile", true},
		{"user:42:*", "user:42:profile", true},
		{"user:42:*", "user:42:profile:photo", true},
		{"user:42:*", "user:42", false},
		{"user:42:*", "user:421:profile", false},
		{"user:4*:profile", "user:42:profile", true},
		{"user:4*2*:profile", "user:4x2y:profile", true},
		{"user:4*2:profile", "user:4:profile", false},
		{"user:a*a:x", "user:a:x", false},
		{"user:**", "user:1:2", false},
		{"user:42", "user:42", true},
		{"user:42", "user:420", false},
		{"*", "anything:at:all", true},
	} {
		if got := matches(tt.pattern, tt.key); got != tt.want {
			t.Errorf("matches(%q, %q) = %t, want %t", tt.pattern, tt.key, got, tt.want)
		}
	}
}

func FuzzKeyOf(f *testing.F) {
	f.Add("user", "a:b", "c")
	f.Add("user", "%3A", ":")
	f.Add("user", "\xff", "{*}")
	f.Fuzz(func(t *testing.T, namespace, a, b string) {
		key := KeyOf(namespace, a, b)
		if strings.Count(key, ":") != 2 {
			t.Fatalf("KeyOf(%q, %q, %q) = %q, want three parts", namespace, a, b, key)
		}
		if a != b && KeyOf(namespace, b, a) == key {
			t.Fatalf("ids %q and %q share a key", a, b)
		}
		if namespace != "" && a != "" && b != "" && len(key) <= maxKeyBytes {
			if err := checkSpelling(key, false); err != nil {
				t.Fatalf("KeyOf(%q, %q, %q) = %q: %v", namespace, a, b, key, err)
			}
			if !matches(key, key) {
				t.Fatalf("%q does not match itself", key)
			}
		}
	})
}
