package mover

import (
	"context"
	_ "embed" // the scripts are compiled in
	"fmt"
	"hash/maphash"

	"github.com/redis/go-redis/v9"
)

// maxKnown bounds the mismatches that are noted before a move. Those beyond it are reported as new.
const maxKnown = 10000

//go:embed note.lua
var noteLua string

//go:embed forget.lua
var forgetLua string

// newVerifier makes a verifier that knows what was wrong at the target before the first job moved.
func (m *Mover) newVerifier(ctx context.Context) (*verifier, error) {
	v := &verifier{Mover: m, seed: maphash.MakeSeed(), limit: maxKept, report: Verification{
		Moved: map[State]int64{}, Mismatches: []Problem{},
	}}
	var err error
	if v.known, err = m.client.HGetAll(ctx, m.knownKey()).Result(); err != nil {
		return v, fmt.Errorf("read ledger: %w", err)
	}
	v.report.Known = int64(max(0, len(v.known)-1)) // one field says that there is a note
	return v, nil
}

// knownKey holds the mismatches of the target before the first job moved; the two ways have one each.
func (m *Mover) knownKey() string {
	if m.opts.Reverse {
		return m.ledgerKey("known:source")
	}
	return m.ledgerKey("known:target")
}

func (*Mover) knownField(p Problem) string { return p.Rule + " " + p.JobID }

// Note keeps in the ledger which mismatches the target has before the first job of a migration moves:
// ids without a job and jobs in no container, left by accidents of years ago. Verify leaves them out
// then. Once a job has moved, or there is a note already, it does nothing.
//
// Price: two commands; the first time what Verify costs, and one script.
func (m *Mover) Note(ctx context.Context) error {
	begun, err := m.client.Exists(ctx, m.knownKey(), m.ledgerKey("counts")).Result()
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	if begun > 0 {
		return nil
	}
	v, err := m.newVerifier(ctx)
	if err != nil {
		return err
	}
	v.limit = maxKnown
	if err := v.verify(ctx); err != nil {
		return fmt.Errorf("look at %s before the move: %w", m.opts.To, err)
	}
	fields := []any{m.opts.Fence.Token, "", "1"}
	for _, p := range v.report.Mismatches {
		if p.Rule != "wrong-type" { // keeps everything from moving anyway
			fields = append(fields, v.knownField(p), p.Message)
		}
	}
	keys := []string{m.knownKey(), m.ledgerKey("counts"), m.fenceKey()}
	if _, err := m.run(ctx, redis.NewScript(noteLua), keys, fields...); err != nil {
		return fmt.Errorf("note what was wrong before: %w", err)
	}
	return nil
}

// LedgerParts are what the keys of a ledger end with, after its prefix and a colon.
func LedgerParts() []string {
	return []string{"counts", "undo", "schedulers", "known:source", "known:target"}
}

// Forget deletes the ledger; only after a phase is complete or a way back is verified, since without
// it the way back is no longer exact. It returns ErrFenced, and deletes nothing, when the lease was
// lost. A pause that came to asynq with the queue ends when its way back has come to its end. Price: one script of two
// commands, and one command for asynq.
func (m *Mover) Forget(ctx context.Context) error {
	keys := []string{m.fenceKey()}
	if m.opts.Reverse && m.opts.From.Layout == Asynq {
		noted, err := m.client.HMGet(ctx, m.ledgerKey("counts"), "carried", "finished").Result()
		if err != nil {
			return fmt.Errorf("read ledger: %w", err)
		}
		if noted[0] == "1" && noted[1] == m.way() {
			keys = append(keys, pauseFlags(m.opts.From)...)
		}
	}
	for _, part := range LedgerParts() {
		keys = append(keys, m.ledgerKey(part))
	}
	if _, err := m.run(ctx, redis.NewScript(forgetLua), keys, m.opts.Fence.Token); err != nil {
		return fmt.Errorf("forget ledger %q: %w", m.opts.Ledger, err)
	}
	return nil
}
