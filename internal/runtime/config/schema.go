package config

import (
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"strings"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// descriptions.json holds the doc comments of every field, by package, type and field. A test writes
// it with -update and compares it without, so that the comments in the source are the only text.
//
//go:embed testdata/descriptions.json testdata/default.yaml testdata/catchup.yaml
var embedded embed.FS

// SchemaID names the schema. It is no address: an editor checks against the file that `redisopt config
// schema > redisopt.schema.json` writes, which is what the first line of the starter files names.
const SchemaID = "urn:redisopt:config:v1"

// Schema is the JSON Schema (draft 2020-12) of redisopt.yaml, with descriptions and defaults, made
// from the struct that the file is read into.
func Schema() ([]byte, error) {
	comments, err := descriptions()
	if err != nil {
		return nil, err
	}
	reflector := jsonschema.Reflector{
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		DoNotReference:             true,
		ExpandedStruct:             true,
		Anonymous:                  true,
		Mapper:                     mapType,
		LookupComment: func(t reflect.Type, field string) string {
			return comments[commentKey(t, field)]
		},
	}
	schema := reflector.Reflect(&Config{})
	schema.ID = SchemaID
	schema.Title = "redisopt.yaml"
	schema.Description = "Configuration of redisopt, version 1."
	addDefaults(schema, reflect.ValueOf(Default()).Elem())
	out, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return append(out, '\n'), nil
}

// mapType describes the types that are not what they are made of: a duration is not a number.
func mapType(t reflect.Type) *jsonschema.Schema {
	switch t {
	case durationType:
		return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|^0$`, Examples: []any{"300s", "1h30m", "50ms"}}
	case secretType, urlType:
		return &jsonschema.Schema{Type: "string"}
	case reflect.TypeFor[budget.RuleLevel](): // the tag's enum is not applied to the values of a map
		return &jsonschema.Schema{Type: "string", Enum: []any{string(budget.RuleOff), string(budget.RuleWarn), string(budget.RuleFail)}}
	default:
		return nil
	}
}

// addDefaults writes the defaults of the leaves in v into schema.
func addDefaults(schema *jsonschema.Schema, v reflect.Value) {
	for _, f := range fields(v.Type()) {
		property, ok := schema.Properties.Get(f.name)
		if !ok {
			continue
		}
		switch value := v.Field(f.index); value.Kind() { //nolint:exhaustive // the rest are leaves
		case reflect.Struct:
			addDefaults(property, value)
		case reflect.Map, reflect.Slice:
		case reflect.String:
			if s := text(value); s != "" {
				property.Default = s
			}
		default:
			property.Default = value.Interface()
			if d, ok := reflect.TypeAssert[time.Duration](value); ok {
				property.Default = durationText(d)
			}
		}
	}
}

func descriptions() (map[string]string, error) {
	raw, err := embedded.ReadFile("testdata/descriptions.json")
	if err != nil {
		return nil, fmt.Errorf("descriptions: %w", err)
	}
	var all map[string]string
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("descriptions: %w", err)
	}
	return all, nil
}

// commentKey is the name of a type's or field's comment: "config.Cache.MaxTTL".
func commentKey(t reflect.Type, field string) string {
	key := path.Base(t.PkgPath()) + "." + t.Name()
	if field != "" {
		key += "." + field
	}
	return key
}

// An Entry is one key of the file, for the reference page.
type Entry struct {
	Key         string   // classes.NAME.ttl for what stands in a map, list[].name for what stands in a list
	Type        string   // "duration", "integer", "one of a, b"
	Default     string   // as it is written in the file; empty when there is none
	Env         []string // environment variables, the first of which goes before the others
	Flag        string   // without dashes; empty when there is none
	Description string
}

// Reference is every key that the file may hold, in the order of the struct.
func Reference() ([]Entry, error) {
	comments, err := descriptions()
	if err != nil {
		return nil, err
	}
	return appendEntries(nil, "", reflect.ValueOf(Default()).Elem(), comments), nil
}

func appendEntries(all []Entry, key string, v reflect.Value, comments map[string]string) []Entry {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("yaml")
		if name == "" {
			continue
		}
		at, value := join(key, name), v.Field(i)
		switch kind := value.Kind(); {
		case kind == reflect.Struct:
			all = appendEntries(all, at, value, comments)
			continue
		case kind == reflect.Map && value.Type().Elem().Kind() == reflect.Struct:
			all = appendEntries(all, at+".NAME", reflect.New(value.Type().Elem()).Elem(), comments)
			continue
		case kind == reflect.Slice && value.Type().Elem().Kind() == reflect.Struct:
			all = appendEntries(all, at+"[]", reflect.New(value.Type().Elem()).Elem(), comments)
			continue
		}
		e := Entry{
			Key: at, Type: typeName(value.Type(), f.Tag), Flag: f.Tag.Get("flag"),
			Description: comments[commentKey(v.Type(), f.Name)],
		}
		if env := f.Tag.Get("env"); env != "" {
			e.Env = strings.Split(env, ",")
		}
		if !strings.Contains(at, "NAME") && !strings.Contains(at, "[]") && value.Kind() != reflect.Map {
			e.Default = text(value)
		}
		all = append(all, e)
	}
	return all
}

func typeName(t reflect.Type, tag reflect.StructTag) string {
	var choices []string
	for _, l := range limits(tag) {
		if l.rule == "enum" {
			choices = append(choices, l.value)
		}
	}
	name := ""
	switch {
	case t == durationType:
		name = "duration"
	case t == secretType:
		name = "secret"
	case t == urlType:
		name = "URL"
	case t.Kind() == reflect.Map:
		return typeName(t.Elem(), tag) + " by name"
	case t.Kind() == reflect.Slice:
		return "list of " + typeName(t.Elem(), tag)
	case len(choices) > 0:
		return oneOf(choices)
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		name = "integer"
	case t.Kind() == reflect.Float64:
		name = "number"
	case t.Kind() == reflect.Bool:
		name = "true or false"
	default:
		name = "text"
	}
	return name
}
