package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// problemsShown bounds an *InvalidError.
const problemsShown = 20

// progressLimit is the most bytes that a progress may have.
const progressLimit = 4 << 10

// noDocuments refuses to fetch what a schema refers to: a schema from a configuration must not make this
// program open files or addresses.
type noDocuments struct{}

func (noDocuments) Load(url string) (any, error) {
	return nil, fmt.Errorf("it refers to %s, want no other documents", url)
}

// compileSchema makes a checker of a JSON Schema.
func compileSchema(text json.RawMessage) (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, errors.New("it is no JSON")
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noDocuments{})
	const here = "urn:redisopt:payload"
	if err := c.AddResource(here, doc); err != nil {
		return nil, err
	}
	return c.Compile(here)
}

// CheckSchema is whether text is a JSON Schema that a Queue can have.
func CheckSchema(text json.RawMessage) error {
	_, err := compileSchema(text)
	return err
}

// checkPayload is whether the queue takes a payload.
func (l *line) checkPayload(payload []byte) error {
	if len(payload) > l.def.MaxPayload {
		return &SizeError{Queue: l.def.Name, Bytes: len(payload), Limit: l.def.MaxPayload}
	}
	if l.schema == nil {
		return nil
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err != nil {
		return &InvalidError{Queue: l.def.Name, Problems: []string{"it is no JSON"}}
	}
	err = l.schema.Validate(doc)
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	switch {
	case err == nil:
		return nil
	case !ok:
		return &InvalidError{Queue: l.def.Name, Problems: []string{err.Error()}}
	}
	var problems []string
	for _, unit := range invalid.BasicOutput().Errors {
		if unit.Error == nil || len(problems) == problemsShown {
			continue
		}
		place := unit.InstanceLocation
		if place == "" {
			place = "/"
		}
		problems = append(problems, place+": "+unit.Error.String())
	}
	if len(problems) == 0 {
		problems = []string{err.Error()}
	}
	return &InvalidError{Queue: l.def.Name, Problems: problems}
}

// checkProgress is whether a progress can be kept.
func checkProgress(progress json.RawMessage) error {
	switch {
	case len(progress) > progressLimit:
		return fmt.Errorf("progress: %d bytes, want at most %d", len(progress), progressLimit)
	case !json.Valid(progress):
		return errors.New("progress: want JSON")
	}
	return nil
}
