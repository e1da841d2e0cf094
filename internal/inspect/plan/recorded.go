package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxDocumentBytes bounds what Record reads.
const maxDocumentBytes = 64 << 20

// The documents that a load can be taken from.
const (
	kindCommands    = "audit.commands/v1"
	kindConnections = "audit.connections/v1"
	kindCode        = "audit.code/v1"
)

// A Record is what a document of an earlier audit says about a load.
type Record struct {
	Kind string

	// Commands and Connections say which of the two the document knows.
	Commands, Connections bool

	// Predicted says that nothing was measured: the document was made from source code.
	Predicted bool

	load    Load
	missing []string
	assumed []string
}

// ReadRecord reads the JSON of audit commands, audit connections or audit code, at most 64 MiB of it.
// Any other document is an error, as is one of a version that this program does not know.
func ReadRecord(r io.Reader) (*Record, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxDocumentBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxDocumentBytes:
		return nil, fmt.Errorf("the document is longer than %d bytes", maxDocumentBytes)
	}
	var doc struct {
		Kind string          `json:"kind"`
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("not a document of this program: %w", err)
	}
	rec := &Record{Kind: doc.Kind}
	switch doc.Kind {
	case kindCommands:
		err = rec.commands(doc.Data)
	case kindConnections:
		err = rec.connections(doc.Data)
	case kindCode:
		err = rec.code(doc.Data)
	case "":
		return nil, errors.New("not a document of this program: it names no kind")
	default:
		name, _, _ := strings.Cut(doc.Kind, "/")
		for _, known := range []string{kindCommands, kindConnections, kindCode} {
			if strings.HasPrefix(known, name+"/") {
				return nil, fmt.Errorf("kind: got %q, want %s; another version of this program wrote it", doc.Kind, known)
			}
		}
		return nil, fmt.Errorf("kind: got %q, want %s, %s or %s", doc.Kind, kindCommands, kindConnections, kindCode)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doc.Kind, err)
	}
	return rec, nil
}

func (rec *Record) commands(data json.RawMessage) error {
	var d struct {
		Observable string  `json:"observable"`
		Partial    bool    `json:"partial"`
		Window     float64 `json:"window_s"`
		Projection struct {
			Top         float64 `json:"top_level_per_month"`
			All         float64 `json:"all_per_month"`
			Uncertainty float64 `json:"uncertainty_percent"`
		} `json:"projection"`
		Commands []struct {
			Name     string  `json:"name"`
			PerMonth float64 `json:"per_month"`
		} `json:"commands"`
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return err
	}
	if d.Observable == "nothing" || d.Projection.All <= 0 {
		return errors.New("no command was counted in it")
	}
	if d.Projection.Top > d.Projection.All {
		return fmt.Errorf("top_level_per_month: got %.0f, which is more than all_per_month (%.0f)", d.Projection.Top, d.Projection.All)
	}
	rec.Commands = true
	rec.load.Top, rec.load.InScript = d.Projection.Top, d.Projection.All-d.Projection.Top
	if d.Observable == "total" {
		rec.assumed = append(rec.assumed, "the recorded server counts only a total: free commands and those in scripts are not told apart")
	} else {
		rec.load.ByCommand = map[string]float64{}
		for _, c := range d.Commands {
			name, _, _ := strings.Cut(strings.ToLower(c.Name), "|")
			rec.load.ByCommand[name] += c.PerMonth
		}
	}
	rec.assumed = append(rec.assumed, fmt.Sprintf("commands are those of %.0f recorded seconds, off by %.1f%% for that length alone", d.Window, d.Projection.Uncertainty))
	if d.Partial {
		rec.missing = append(rec.missing, "commands: the recorded window was cut short")
	}
	return nil
}

func (rec *Record) connections(data json.RawMessage) error {
	var d struct {
		Total   float64  `json:"total"`
		Missing []string `json:"missing"`
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return err
	}
	if d.Total <= 0 {
		return errors.New("no connection was seen in it")
	}
	rec.Connections = true
	rec.load.Connections = d.Total
	for _, m := range d.Missing {
		rec.missing = append(rec.missing, "connections: "+m)
	}
	return nil
}

func (rec *Record) code(data json.RawMessage) error {
	type span struct {
		Min  float64 `json:"min"`
		Max  float64 `json:"max"`
		Open bool    `json:"open_above"`
	}
	var d struct {
		Connections span `json:"rolling_deploy_connections"`
		Idle        struct {
			Top span `json:"top_level_per_month"`
			All span `json:"all_per_month"`
		} `json:"idle"`
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return err
	}
	most := func(name string, s span) float64 {
		if s.Open {
			rec.missing = append(rec.missing, fmt.Sprintf("%s: the code tells %.0f or more", name, s.Min))
			return s.Min
		}
		if s.Max > s.Min {
			rec.assumed = append(rec.assumed, fmt.Sprintf("%s: the code tells %.0f to %.0f, and the most counts", name, s.Min, s.Max))
		}
		return s.Max
	}
	rec.Predicted = true
	all := most("idle commands a month", d.Idle.All)
	top := min(most("idle commands a month, top-level", d.Idle.Top), all)
	rec.load.Connections = most("connections in a rolling deploy", d.Connections)
	rec.load.Top, rec.load.InScript = top, all-top
	rec.Commands, rec.Connections = all > 0, rec.load.Connections > 0
	if !rec.Commands && !rec.Connections {
		return errors.New("nothing that talks to a Redis was found in it")
	}
	rec.assumed = append(rec.assumed, "commands are those of idling alone, predicted from source code: jobs and requests come on top")
	return nil
}

// Gather makes one load of records. What was measured goes before what was predicted; two documents that
// both measured one thing contradict each other. The strings are what the numbers assume and lack.
func Gather(records []*Record) (load Load, assumed, missing []string, err error) {
	var commands, connections *Record
	pick := func(what string, old, rec *Record, has bool) (*Record, error) {
		switch {
		case !has || old != nil && !old.Predicted && rec.Predicted:
			return old, nil
		case old == nil || old.Predicted && !rec.Predicted:
			return rec, nil
		}
		return nil, fmt.Errorf("two documents of %s both say how many %s there are; give one", rec.Kind, what)
	}
	var errs []error
	for _, rec := range records {
		var bad error
		if commands, bad = pick("commands", commands, rec, rec.Commands); bad != nil {
			errs = append(errs, bad)
		}
		if connections, bad = pick("connections", connections, rec, rec.Connections); bad != nil {
			errs = append(errs, bad)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Load{}, nil, nil, err
	}
	load.Sources = []string{}
	if commands != nil {
		load.Top, load.InScript, load.ByCommand = commands.load.Top, commands.load.InScript, commands.load.ByCommand
		load.Sources = append(load.Sources, commands.Kind)
		assumed, missing = append(assumed, commands.assumed...), append(missing, commands.missing...)
	}
	if connections != nil {
		load.Connections = connections.load.Connections
		if connections != commands {
			load.Sources = append(load.Sources, connections.Kind)
			missing = append(missing, connections.missing...)
		}
	}
	return load, assumed, missing, nil
}
