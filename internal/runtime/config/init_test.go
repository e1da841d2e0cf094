package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

func ignoreOrigins() cmp.Option {
	return cmp.Options{cmp.AllowUnexported(Config{}), cmp.FilterPath(func(p cmp.Path) bool {
		return p.Last().String() == ".origins"
	}, cmp.Ignore())}
}

func written(t *testing.T, profile string) string {
	t.Helper()
	text, err := Init(profile)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var commentedKey = regexp.MustCompile(`(?m)^# ( *[a-z_0-9]+:)`)

func TestTheWrittenFileParsesBackToTheDefaults(t *testing.T) {
	text := written(t, "")
	check := schemaChecker(t)
	// Everything that is a commented key, taken in: what the comments say is the default must be it.
	_, body, _ := strings.Cut(text, "version: 1\n")
	for name, file := range map[string]string{
		"as written":          text,
		"with every key used": "version: 1\n" + commentedKey.ReplaceAllString(body, "$1"),
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(name, "every") && !strings.Contains(file, "\nupstream:\n  max_connections: 3") {
				t.Fatalf("the comments were not taken in:\n%s", file)
			}
			got, err := Load(inFile(file))
			if err != nil {
				t.Fatal(err)
			}
			want := Default()
			if strings.Contains(name, "every") {
				want.Queues.List = []Queue{}
			}
			if diff := cmp.Diff(want, got, ignoreOrigins()); diff != "" {
				t.Errorf("not the defaults (-want +got):\n%s", diff)
			}
			check(file, true)
		})
	}
}

func TestTheCatchupProfileParsesBackToTheDesign(t *testing.T) {
	text := written(t, "catchup")
	got, err := Load(inFile(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Warnings()) > 0 {
		t.Errorf("warnings: %v", got.Warnings())
	}
	want := Default()
	want.Queues.List = []Queue{
		{Name: "webhook-health-check"},
		{Name: "notification-reminder"},
		{Name: "token-health-reminder"},
		{Name: "adaptive-sync"},
		{Name: "webhook-renewal", DependsOn: []string{"webhook-health-check"}},
		{Name: "suggestion-regeneration"},
		{Name: "batch-notifications"},
		{Name: "suggestion-generation"},
		{Name: "token-refresh", Criticality: Critical, DependsOn: []string{"token-health-reminder"}},
		{Name: "calendar-sync", Criticality: Critical, DependsOn: []string{"webhook-renewal", "token-refresh"}},
		{Name: "google-contacts-sync", Criticality: Critical, DependsOn: []string{"token-refresh"}},
	}
	for i := range want.Queues.List {
		q := &want.Queues.List[i]
		q.MigrationOrder = i + 1
		if q.Criticality == "" {
			q.Criticality = Normal
		}
		if q.Note = got.Queues.List[i].Note; q.Note == "" {
			t.Errorf("queue %s has no note", q.Name)
		}
	}
	want.Budgets.Connections.Fleet = 3
	want.Budgets.Commands.PerMonth = 500_000
	if diff := cmp.Diff(want, got, ignoreOrigins()); diff != "" {
		t.Errorf("not the profile (-want +got):\n%s", diff)
	}
	schemaChecker(t)(text, true)
}

func TestWhatGuardsACriticalQueueIsNotPaused(t *testing.T) {
	c, err := Load(inFile(written(t, "catchup")))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Pause{}
	for _, q := range c.Queues.List {
		got[q.Name] = c.Queues.PauseOf(q.Name)
	}
	free, calendar := Pause{Safe: true}, []string{"calendar-sync"}
	everyone := []string{"calendar-sync", "google-contacts-sync", "token-refresh"}
	if diff := cmp.Diff(map[string]Pause{
		"webhook-health-check":    {Guards: calendar},
		"notification-reminder":   free,
		"token-health-reminder":   {Guards: everyone},
		"adaptive-sync":           free,
		"webhook-renewal":         {Guards: calendar},
		"suggestion-regeneration": free,
		"batch-notifications":     free,
		"suggestion-generation":   free,
		"token-refresh":           {Guards: everyone[:2]},
		"calendar-sync":           {},
		"google-contacts-sync":    {},
	}, got); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
	c.Queues.List[4].MaxPause = 3600e9
	if got := c.Queues.PauseOf("webhook-renewal"); !got.Safe || got.Most != 3600e9 {
		t.Errorf("with a known max_pause: %+v, want safe for 1h", got)
	}
	if c.Queues.PauseOf("nobody-knows").Safe {
		t.Error("a queue that is not listed may be paused")
	}
}

func TestAnUnknownProfileIsRefused(t *testing.T) {
	if _, err := Init("catch-up"); err == nil || err.Error() != `profile "catch-up": want catchup` {
		t.Errorf("Init = %v", err)
	}
}

func TestTheSchemaRefusesWhatTheReaderRefuses(t *testing.T) {
	check := schemaChecker(t)
	for _, file := range []string{
		"cache: {default_tll: 1h}",
		"cache: {max_ttl: 3600}",
		"cache: {max_ttl: soon}",
		"upstream: {port: 0}",
		"upstream: {port: x}",
		"upstream: {tls: maybe}",
		"version: 2",
		"cache:",
		"limits: {rules: {a: {limit: 1, period: 1s, on_error: maybe}}}",
		"queues: {list: [{name: ''}]}",
		"queues: {list: {}}",
		"queues: {list: [{name: a, criticality: high}]}",
		"budgets: {require: [alive]}",
		"budgets: {commands: {warn_at: 2}}",
		"budgets: {rules: {idle-polling: maybe}}",
		"budgets: {increase: {connections: -2}}",
		"budgets: {waivers: [{rule: x, owner: '', reason: y, expires: '2026-12-31'}]}",
		"[]",
	} {
		if _, err := Load(inFile(file)); err == nil {
			t.Errorf("the reader takes %s", file)
		}
		check(file, false)
	}
	for _, file := range []string{
		"upstream: {url: 'redis://h', tls: true, cluster: ['a:1']}\nserve: {state_dir: /x}",
		"budgets: {require: [static, live], commands: {period: 30-days, start: '2026-11-05'}, latency: {x: {p95: 1.5ms}}}",
		"cache: {classes: {A: {ttl: 1h30m, sensitive: true}}}",
		"budgets: {rules: {idle-polling: off, syntax-error: fail}, increase: {connections: 0}, operations: [{name: GET /users, commands: 3}]}",
		"budgets: {waivers: [{rule: idle-polling, file: src/*.ts, owner: mail team, reason: moving, expires: '2026-12-31'}]}",
	} {
		if _, err := Load(inFile(file)); err != nil && !strings.Contains(err.Error(), "cluster") {
			t.Errorf("the reader refuses %s: %v", file, err)
		}
		check(file, true)
	}
}

// schemaChecker returns a check of files against the schema, which is compiled once.
func schemaChecker(t *testing.T) func(file string, valid bool) {
	t.Helper()
	raw, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := validator.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	compiler := validator.NewCompiler()
	if err := compiler.AddResource(SchemaID, doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(SchemaID)
	if err != nil {
		t.Fatal(err)
	}
	return func(file string, valid bool) {
		t.Helper()
		var value any
		if err := yaml.Unmarshal([]byte(file), &value); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if value, err = validator.UnmarshalJSON(bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); (err == nil) != valid {
			t.Errorf("schema.Validate(%.60q) = %v, want valid %t", file, err, valid)
		}
	}
}

func TestTheSchemaDescribesEveryKey(t *testing.T) {
	raw, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(raw, &root); err != nil {
		t.Fatal(err)
	}
	var walk func(at string, node map[string]any)
	walk = func(at string, node map[string]any) {
		properties, _ := node["properties"].(map[string]any)
		for name, p := range properties {
			property := p.(map[string]any)
			if property["description"] == nil || property["description"] == "" {
				t.Errorf("%s.%s has no description", at, name)
			}
			walk(at+"."+name, property)
			for _, inner := range []string{"items", "additionalProperties"} {
				if x, ok := property[inner].(map[string]any); ok {
					walk(at+"."+name+"[]", x)
				}
			}
		}
	}
	walk("", root)
	ttl := root["properties"].(map[string]any)["cache"].(map[string]any)["properties"].(map[string]any)["default_ttl"].(map[string]any)
	if got, want := fmt.Sprint(ttl["default"], ttl["description"]), "1hHow long an entry lives when its writer does not say. Default 1h."; got != want {
		t.Errorf("cache.default_ttl = %q, want %q", got, want)
	}
}
