package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// An operationRow is what the document says of one operation.
type operationRow struct {
	id, method, path, scope string
	responses               []string
	body                    map[string]any // by media type
}

// operations reads the document that a serves, as a client would.
func operations(t testing.TB, a *API) []operationRow {
	t.Helper()
	doc := document(t, a)
	var rows []operationRow
	for path, item := range doc["paths"].(map[string]any) {
		for method, raw := range item.(map[string]any) {
			op := raw.(map[string]any)
			row := operationRow{id: op["operationId"].(string), method: strings.ToUpper(method), path: path}
			if security, ok := op["security"].([]any); ok {
				row.scope = security[0].(map[string]any)["token"].([]any)[0].(string)
			}
			row.responses = slices.Sorted(maps.Keys(op["responses"].(map[string]any)))
			if body, ok := op["requestBody"].(map[string]any); ok {
				row.body = body["content"].(map[string]any)
			}
			rows = append(rows, row)
		}
	}
	if len(rows) < 20 {
		t.Fatalf("the document has %d operations, want all", len(rows))
	}
	return rows
}

func document(t testing.TB, a *API) map[string]any {
	t.Helper()
	return decode[map[string]any](t, ask(t, a, call{path: "/openapi.json"}), http.StatusOK)
}

func TestTheDocumentIsOpenAPI31(t *testing.T) {
	t.Parallel()
	doc := document(t, newAPI(t, Options{Version: "1.2.3"}))
	if got := doc["openapi"]; got != "3.1.0" {
		t.Errorf("openapi = %v, want 3.1.0", got)
	}
	if got := doc["info"].(map[string]any)["version"]; got != "1.2.3" {
		t.Errorf("version = %v, want the program's", got)
	}
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	for _, unwanted := range []string{"ErrorModel", "ErrorDetail"} {
		if _, ok := schemas[unwanted]; ok {
			t.Errorf("schema %s is in the document and never sent", unwanted)
		}
	}

	// Every reference leads somewhere, every id is unique, and every path parameter is described.
	text, _ := json.Marshal(doc)
	for _, ref := range regexp.MustCompile(`"\$ref":"#/components/schemas/([^"]+)"`).FindAllStringSubmatch(string(text), -1) {
		if _, ok := schemas[ref[1]]; !ok {
			t.Errorf("$ref to %s leads nowhere", ref[1])
		}
	}
	ids := map[string]bool{}
	for path, item := range doc["paths"].(map[string]any) {
		for method, raw := range item.(map[string]any) {
			op := raw.(map[string]any)
			id := op["operationId"].(string)
			if ids[id] {
				t.Errorf("operation id %s is there twice", id)
			}
			ids[id] = true
			if op["summary"] == nil || op["description"] == nil || op["responses"].(map[string]any)["default"] == nil {
				t.Errorf("%s %s: want a summary, a description and a default response", method, path)
			}
			for _, name := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
				if !strings.Contains(fmt.Sprint(op["parameters"]), "name:"+name[1]) {
					t.Errorf("%s %s: parameter %s is not described", method, path, name[1])
				}
			}
		}
	}

	// Every schema is one by JSON Schema 2020-12, which OpenAPI 3.1 uses.
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	if err := compiler.AddResource("mem:///openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	for name := range schemas {
		if _, err := compiler.Compile("mem:///openapi.json#/components/schemas/" + name); err != nil {
			t.Errorf("schema %s: %v", name, err)
		}
	}
}

func TestEveryOperationOfTheDocumentAnswersAsItSays(t *testing.T) {
	t.Parallel()
	o := engines(t, open(t))
	o.Tokens = tokens()
	a := newAPI(t, o)
	doc := document(t, a)
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	if err := compiler.AddResource("mem:///openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	calls := guarded()
	for _, op := range operations(t, a) {
		c := call{method: op.method, path: op.path}
		if row, ok := calls[op.id]; ok {
			c = row.call
		}
		c.header = bearer(secret(ScopeAdmin))
		r := ask(t, a, c)
		absent := op.id == "cache-get" || strings.HasSuffix(c.path, "/none") || strings.Contains(c.path, "/none/")
		if r.StatusCode == http.StatusNotFound && !absent || r.StatusCode == http.StatusMethodNotAllowed || r.StatusCode >= 500 {
			t.Errorf("%s %s = %d: %s", op.method, op.path, r.StatusCode, r.body)
			continue
		}
		item := doc["paths"].(map[string]any)[op.path].(map[string]any)[strings.ToLower(op.method)].(map[string]any)
		response, ok := item["responses"].(map[string]any)[fmt.Sprint(r.StatusCode)].(map[string]any)
		if !ok {
			t.Errorf("%s answers %d, which the document does not say", op.id, r.StatusCode)
			continue
		}
		if r.StatusCode == http.StatusNoContent {
			continue
		}
		media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
		content, _ := response["content"].(map[string]any)
		if _, ok := content[media]; !ok {
			t.Errorf("%s answers %d with %s, the document says %v", op.id, r.StatusCode, media, slices.Collect(maps.Keys(content)))
			continue
		}
		described, _ := content[media].(map[string]any)
		schema, _ := described["schema"].(map[string]any)
		ref, _ := schema["$ref"].(string)
		if ref == "" {
			continue
		}
		compiled, err := compiler.Compile("mem:///openapi.json" + ref)
		if err != nil {
			t.Fatal(err)
		}
		body, err := jsonschema.UnmarshalJSON(strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiled.Validate(body); err != nil {
			t.Errorf("%s: the answer is not what the document says: %v", op.id, err)
		}
	}
}

func TestAnswersMayGrowAndRequestsMayNot(t *testing.T) {
	t.Parallel()
	schemas := document(t, newAPI(t, Options{}))["components"].(map[string]any)["schemas"].(map[string]any)
	for name, wantClosed := range map[string]bool{
		"LimitRequest": true, "LimitSubject": true, "CacheWrite": true, "ControlOverride": true, "BatchGetInputBody": true,
		"LimitResult": false, "CacheEntry": false, "Problem": false, "Readiness": false, "ControlState": false,
	} {
		schema, ok := schemas[name].(map[string]any)
		if !ok {
			t.Errorf("there is no schema %s", name)
			continue
		}
		if closed := schema["additionalProperties"] == false; closed != wantClosed {
			t.Errorf("schema %s refuses further fields: %v, want %v", name, closed, wantClosed)
		}
	}
}
