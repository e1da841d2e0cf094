package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestADiffNamesWhatChangedAndHidesSecrets(t *testing.T) {
	load := func(file string) *Config {
		t.Helper()
		c, err := Load(inFile(file))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := load("limits: {rules: {api: {limit: 60}, old: {limit: 1, period: 1s}}}\nserve: {token: first-secret, log_level: info}\n")
	after := load("limits: {rules: {api: {limit: 90}}}\nserve: {token: other-secret, gateway: {allow: [KEYS]}}\n")
	want := []Change{
		{"limits.rules.api.limit", "60", "90"},
		{"serve.token", mask, mask},
		{"serve.gateway.allow", "", "KEYS"},
	}
	got := before.Diff(after)
	for i, c := range got {
		if i >= len(want) {
			// What is gone comes last, with all its keys.
			if c.New != "" || len(c.Key) < 17 || c.Key[:17] != "limits.rules.old." {
				t.Errorf("also changed: %+v", c)
			}
			continue
		}
		if diff := cmp.Diff(want[i], c); diff != "" {
			t.Errorf("change %d (-want +got):\n%s", i, diff)
		}
	}
	if len(got) <= len(want) {
		t.Errorf("%d changes, want those of the rule that is gone too", len(got))
	}
	if same := before.Diff(before); len(same) > 0 {
		t.Errorf("nothing changed, but %v", same)
	}
}
