package report

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"time"
)

// envelope is what JSON readers see around every document.
type envelope struct {
	Kind string `json:"kind"`
	Data any    `json:"data"`
}

func renderJSON(doc Document) ([]byte, error) {
	return encode(doc, "  ")
}

// encode prints the envelope of doc, ending in a newline. An empty indent puts it on one line.
func encode(doc Document, indent string) ([]byte, error) {
	data, err := contract(doc.Data)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // "<" in a message is not a danger in JSON, "\u003c" is hard to read
	enc.SetIndent("", indent)
	if err := enc.Encode(envelope{Kind: doc.Kind, Data: data}); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// maxDepth bounds the nesting of a contract, so that a cycle is an error and not an endless loop.
const maxDepth = 40

// contract returns a copy of data as the JSON contract promises it: lists are [] and maps {} where
// they are nil, times are UTC, and every struct field has a snake_case name. The data itself is not
// changed.
func contract(data any) (any, error) {
	if data == nil {
		return struct{}{}, nil
	}
	copied, err := copyValue(reflect.ValueOf(data), maxDepth)
	if err != nil {
		return nil, err
	}
	return copied.Interface(), nil
}

func copyValue(v reflect.Value, depth int) (reflect.Value, error) {
	if depth == 0 {
		return v, fmt.Errorf("data is nested deeper than %d levels", maxDepth)
	}
	if t, ok := reflect.TypeAssert[time.Time](v); ok {
		return reflect.ValueOf(t.UTC()), nil
	}
	if marshalsItself(v.Type()) {
		return v, nil
	}
	switch v.Kind() { //nolint:exhaustive // every other kind is a plain value and is kept
	case reflect.Pointer, reflect.Interface:
		return copyPointer(v, depth)
	case reflect.Slice, reflect.Array:
		return copyList(v, depth)
	case reflect.Map:
		return copyMap(v, depth)
	case reflect.Struct:
		return copyStruct(v, depth)
	}
	return v, nil
}

// marshalsItself reports whether t decides about its own JSON.
func marshalsItself(t reflect.Type) bool {
	return t.Implements(reflect.TypeFor[json.Marshaler]()) || t.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}

func copyPointer(v reflect.Value, depth int) (reflect.Value, error) {
	if v.IsNil() {
		return v, nil
	}
	inner, err := copyValue(v.Elem(), depth-1)
	if err != nil {
		return v, err
	}
	if v.Kind() == reflect.Interface {
		out := reflect.New(v.Type()).Elem()
		out.Set(inner)
		return out, nil
	}
	out := reflect.New(v.Type().Elem())
	out.Elem().Set(inner)
	return out, nil
}

func copyList(v reflect.Value, depth int) (reflect.Value, error) {
	out := reflect.New(v.Type()).Elem()
	if v.Kind() == reflect.Slice {
		out = reflect.MakeSlice(v.Type(), v.Len(), v.Len())
	}
	for i := range v.Len() {
		item, err := copyValue(v.Index(i), depth-1)
		if err != nil {
			return v, err
		}
		out.Index(i).Set(item)
	}
	return out, nil
}

func copyMap(v reflect.Value, depth int) (reflect.Value, error) {
	out := reflect.MakeMapWithSize(v.Type(), v.Len())
	for entries := v.MapRange(); entries.Next(); {
		value, err := copyValue(entries.Value(), depth-1)
		if err != nil {
			return v, err
		}
		out.SetMapIndex(entries.Key(), value)
	}
	return out, nil
}

func copyStruct(v reflect.Value, depth int) (reflect.Value, error) {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		if !field.Anonymous && !snakeCase(name) {
			return v, fmt.Errorf("field %s of %s has the JSON name %q, want snake_case", field.Name, v.Type(), name)
		}
		value, err := copyValue(v.Field(i), depth-1)
		if err != nil {
			return v, err
		}
		out.Field(i).Set(value)
	}
	return out, nil
}

func snakeCase(name string) bool {
	ok, err := regexp.MatchString(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`, name)
	return ok && err == nil
}

// An Error is the contract of error/v1: what a failed command prints to stderr when its answer was
// asked for as JSON.
type Error struct {
	// Code is a stable word for the cause: "usage", "unreachable", "denied".
	Code string `json:"code"`

	// Message says what happened and on what. It never holds a secret.
	Message string `json:"message"`

	// Hint says what to do next; empty when the message does.
	Hint string `json:"hint"`

	// ExitCode is the exit code of the process.
	ExitCode int `json:"exit_code"`
}

// WriteError prints e as one error/v1 object on one line, so that the last line of stderr is always
// the whole error.
func WriteError(w io.Writer, e Error) error {
	out, err := encode(Document{Kind: "error/v1", Data: e}, "")
	if err != nil {
		return fmt.Errorf("print error: %w", err)
	}
	_, err = w.Write(out)
	return err
}
