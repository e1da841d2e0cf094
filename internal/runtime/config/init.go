package config

import (
	"fmt"
	"slices"
)

// Profiles are the names that Init knows besides the empty one.
func Profiles() []string { return []string{"catchup"} }

// Init is a new configuration file with comments. Without a profile it is a small one that says what
// the defaults are and changes none. The profile catchup is an application of eleven Bull queues
// beside a cache, a rate limit and an SMS limit, on a free plan.
func Init(profile string) ([]byte, error) {
	name := profile
	switch {
	case profile == "":
		name = "default"
	case !slices.Contains(Profiles(), profile):
		return nil, fmt.Errorf("profile %q: want %s", profile, oneOf(Profiles()))
	}
	text, err := embedded.ReadFile("testdata/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("profile %q: %w", profile, err)
	}
	return text, nil
}
