package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// describe says what the document is about.
func describe(doc *huma.OpenAPI) {
	doc.Info.Description = "Cache, rate limits, job queues and control of the redisopt sidecar. Every error is application/problem+json " +
		"with a code, a hint and the request's id. A client may choose the id with X-Request-Id."
	doc.Info.License = &huma.License{Name: "Apache 2.0", Identifier: "Apache-2.0"}
	doc.Tags = []*huma.Tag{
		{Name: "cache", Description: "Values in memory and in the upstream"},
		{Name: "limit", Description: "Rate limits and quotas"},
		{Name: "queue", Description: "Jobs: added, fetched, looked at, tried again"},
		{Name: "control", Description: "What is ramped, paused and switched off"},
		{Name: "health", Description: "For probes, scrapers and tools"},
	}
	doc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "A token of the configuration, with scopes: " + scopeList(Scopes()) + ". Admin includes all."},
	}
}

// operation is an operation with the errors that every one may answer. An empty scope asks for no token.
func (a *API) operation(id, method, path, tag, summary string, scope Scope, description string) huma.Operation {
	op := huma.Operation{
		OperationID: id, Method: method, Path: path, Tags: []string{tag}, Summary: summary, Description: description,
		Metadata: map[string]any{}, Responses: map[string]*huma.Response{}, MaxBodyBytes: -1, BodyReadTimeout: -1,
	}
	op.Responses["default"] = problemResponse("Any other error")
	if scope != "" {
		op.Metadata[scopeKind] = scope
		op.Description += " Scope: " + string(scope) + "."
		op.Security = []map[string][]string{{"token": {string(scope)}}}
		for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
			op.Responses[strconv.Itoa(status)] = problemResponse(http.StatusText(status))
		}
	}
	return op
}

// takesJSON marks an operation whose body is one JSON document.
func takesJSON(op huma.Operation) huma.Operation {
	op.Metadata[bodyKind] = jsonBody
	return withErrors(op, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity)
}

func withErrors(op huma.Operation, statuses ...int) huma.Operation {
	for _, status := range statuses {
		op.Responses[strconv.Itoa(status)] = problemResponse(http.StatusText(status))
	}
	return op
}

func problemResponse(description string) *huma.Response {
	return &huma.Response{
		Description: description,
		Content:     map[string]*huma.MediaType{problemType: {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}}},
	}
}

func jsonResponse(description string, schema *huma.Schema) *huma.Response {
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}
}

// schemaName is the type's name; a type of another package has the package in front, since two engines
// may each have Stats.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	in := path.Base(t.PkgPath())
	if in == "api" || in == "." || strings.HasPrefix(strings.ToLower(name), in) {
		return name
	}
	return strings.ToUpper(in[:1]) + in[1:] + name
}

func schemaOf[T any](h huma.API) *huma.Schema {
	t := reflect.TypeFor[T]()
	return h.OpenAPI().Components.Schemas.Schema(t, true, t.Name())
}

// finishDocument writes the document once: nothing in it changes while the server runs.
func (a *API) finishDocument(doc *huma.OpenAPI) error {
	schemas := doc.Components.Schemas
	schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
	// huma registers its own form of an error, which is never sent.
	maps.DeleteFunc(schemas.Map(), func(name string, _ *huma.Schema) bool {
		return slices.Contains([]string{"ErrorModel", "ErrorDetail"}, name)
	})
	openAnswers(doc)
	text, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("openapi document: %w", err)
	}
	a.document = text
	return nil
}

// openAnswers lets every schema that is only used in answers have further fields: later versions add
// some. What a request may have stays closed.
func openAnswers(doc *huma.OpenAPI) {
	closed := map[string]bool{}
	for _, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Delete} {
			if op == nil || op.RequestBody == nil {
				continue
			}
			for _, media := range op.RequestBody.Content {
				closeOver(doc.Components.Schemas, media.Schema, closed)
			}
		}
	}
	for name, schema := range doc.Components.Schemas.Map() {
		if schema.AdditionalProperties == false && !closed[name] {
			schema.AdditionalProperties = nil
		}
	}
}

// closeOver collects the names of all schemas that schema refers to.
func closeOver(all huma.Registry, schema *huma.Schema, into map[string]bool) {
	if schema == nil {
		return
	}
	if schema.Ref != "" {
		name := path.Base(schema.Ref)
		if into[name] {
			return
		}
		into[name] = true
		schema = all.SchemaFromRef(schema.Ref)
	}
	for _, p := range schema.Properties {
		closeOver(all, p, into)
	}
	closeOver(all, schema.Items, into)
}
