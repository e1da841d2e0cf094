package migrate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// emergencySchema is the version of the notes that this program writes and the newest it reads.
const emergencySchema = 1

// An Emergency is a way back that was taken without the Redis, so without its journal: what was done, when,
// by whom. It is kept in the state directory until an ordinary way back has taken it into the journal.
type Emergency struct {
	Schema int    `json:"schema"`
	Phase  string `json:"phase"`

	// Upstream is the address of the Redis that could not be asked, host:port without credentials.
	Upstream string `json:"upstream"`

	At     time.Time `json:"at"`
	By     string    `json:"by"` // user@host pid
	Reason string    `json:"reason"`

	// Replicas are those that were told.
	Replicas []EmergencyReplica `json:"replicas"`

	// Reconciled says that the line is no emergency but the end of those before it.
	Reconciled bool `json:"reconciled,omitempty"`
}

// An EmergencyReplica is what became of one replica.
type EmergencyReplica struct {
	URL   string `json:"url"`
	Done  bool   `json:"done"`
	Error string `json:"error,omitempty"`
}

// Missed is how many replicas were not reached.
func (e *Emergency) Missed() int {
	n := 0
	for _, r := range e.Replicas {
		if !r.Done {
			n++
		}
	}
	return n
}

// String is one sentence for people and for the journal.
func (e *Emergency) String() string {
	text := fmt.Sprintf("an emergency at %s by %s took all keys back on %d of %d replicas, without the Redis",
		e.At.UTC().Format(time.RFC3339), e.By, len(e.Replicas)-e.Missed(), len(e.Replicas))
	return text + because(e.Reason)
}

// emergencyFile is where the notes about one Redis are, one line of JSON each. It is named by the address,
// because the database's own name is in the Redis that cannot be asked.
func emergencyFile(dir, phase, upstream string) string {
	sum := sha256.Sum256([]byte(upstream))
	return filepath.Join(dir, "emergencies", fmt.Sprintf("%s-%s.jsonl", phase, hex.EncodeToString(sum[:4])))
}

// NoteEmergency keeps e in the state directory, made when missing, and returns the file it is in. It is on
// disk when NoteEmergency returns nil. By is Owner() and At now where they are empty.
func NoteEmergency(dir string, e Emergency) (string, error) {
	e.Schema = emergencySchema
	if e.By == "" {
		e.By = Owner()
	}
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.At = e.At.UTC().Truncate(time.Second)
	line, err := json.Marshal(e)
	if err != nil {
		return "", err
	}
	path := emergencyFile(dir, e.Phase, e.Upstream)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return path, err
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return path, err
	}
	// A line before that a crash cut short ends here, so that it spoils only itself.
	_, err = file.Write(append(append([]byte("\n"), line...), '\n'))
	if err == nil {
		err = file.Sync()
	}
	return path, errors.Join(err, file.Close())
}

// ReconcileEmergency notes that the journal knows of every emergency of phase at upstream by now. Without any
// it writes nothing.
func ReconcileEmergency(dir, phase, upstream string) error {
	last, err := LastEmergency(dir, phase, upstream)
	if err != nil || last == nil {
		return err
	}
	_, err = NoteEmergency(dir, Emergency{Phase: phase, Upstream: upstream, Reconciled: true})
	return err
}

// LastEmergency is the last emergency of phase at upstream of which the journal does not know yet, nil when
// there is none. A line that a crash cut short is none; one that a newer version wrote is an error.
func LastEmergency(dir, phase, upstream string) (*Emergency, error) {
	text, err := os.ReadFile(emergencyFile(dir, phase, upstream))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var last *Emergency
	for line := range bytes.Lines(text) {
		var e Emergency
		if json.Unmarshal(line, &e) != nil || e.Schema == 0 {
			continue
		}
		if e.Schema > emergencySchema {
			return nil, fmt.Errorf("note of an emergency has schema %d, this version reads up to %d", e.Schema, emergencySchema)
		}
		if e.Phase != phase || e.Upstream != upstream {
			continue // another address with the same digits
		}
		if last = &e; e.Reconciled {
			last = nil
		}
	}
	return last, nil
}
