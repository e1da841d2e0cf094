package queue

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// Schema is the schema number of the envelopes this program writes, and the highest it reads. Fields may be
// added without raising it.
const Schema = 1

// envelopeHeader is the header of a task in which the envelope is; no producer may use it.
const envelopeHeader = "redisopt"

// An envelope is what this package keeps with a task beyond what asynq does.
type envelope struct {
	Schema   int      `json:"schema"`
	Queue    string   `json:"queue"`
	At       int64    `json:"at"`                 // when it was added, Unix milliseconds
	Due      int64    `json:"due,omitempty"`      // when it may first run, Unix milliseconds; 0 for at once
	Timeout  int64    `json:"timeout,omitempty"`  // of an attempt, milliseconds
	Deadline int64    `json:"deadline,omitempty"` // Unix milliseconds
	Backoff  *Backoff `json:"backoff,omitempty"`
	Schedule string   `json:"schedule,omitempty"`
	Batch    string   `json:"batch,omitempty"` // the key of a batch
}

// enqueued is when the job was added; zero when unknown.
func (v envelope) enqueued() time.Time {
	if v.At == 0 {
		return time.Time{}
	}
	return time.UnixMilli(v.At)
}

// ready is when the job could first run; zero when unknown.
func (v envelope) ready() time.Time {
	if v.At == 0 {
		return time.Time{}
	}
	return time.UnixMilli(max(v.At, v.Due))
}

// seal puts the envelope among the producer's headers.
func (v envelope) seal(headers map[string]string) (map[string]string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	all := make(map[string]string, len(headers)+1)
	maps.Copy(all, headers)
	all[envelopeHeader] = string(text)
	return all, nil
}

// unseal takes the envelope out of a task's headers. A task without one is of something else that speaks
// asynq, and has the zero envelope. The Schema of a newer one is set together with the error.
func unseal(headers map[string]string) (envelope, map[string]string, error) {
	own := make(map[string]string, len(headers))
	maps.Copy(own, headers)
	text, ok := own[envelopeHeader]
	delete(own, envelopeHeader)
	if !ok {
		return envelope{}, own, nil
	}
	var v envelope
	if err := json.Unmarshal([]byte(text), &v); err == nil && v.Schema >= 1 && v.Schema <= Schema {
		return v, own, nil
	}
	// The schema first: what a newer one means is not for us to read.
	var head struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal([]byte(text), &head); err != nil || head.Schema == nil || *head.Schema < 1 {
		return envelope{}, own, fmt.Errorf("its header %s is damaged", envelopeHeader)
	}
	if *head.Schema > Schema {
		return envelope{Schema: *head.Schema}, own, &SchemaError{Got: *head.Schema, Known: Schema}
	}
	return envelope{}, own, fmt.Errorf("its header %s is damaged", envelopeHeader)
}
