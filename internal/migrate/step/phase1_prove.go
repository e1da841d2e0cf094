package step

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/runtime/ramp"
)

// A Proof is what a sample of real values says about the clients on both sides.
type Proof struct {
	Sampled  int64         `json:"sampled"`  // values that were looked at
	Commands int64         `json:"commands"` // that it cost
	Whole    bool          `json:"whole"`    // every key was seen
	Prefixes []ProofCounts `json:"prefixes"`
}

// ProofCounts are the values under one prefix.
type ProofCounts struct {
	Prefix  string              `json:"prefix"`
	Sampled int64               `json:"sampled"`
	Found   map[valueKind]int64 `json:"found"`

	examples map[valueKind][]string
}

// A valueKind is what clients make of a value.
type valueKind string

const (
	valueSame    valueKind = "same"        // an object, a list, true, null: the same for all who parse JSON
	valueString  valueKind = "json-string" // "text" in quotes
	valueNumber  valueKind = "number"      // a number that automatic deserialisation gives as one
	valueOddNum  valueKind = "odd-number"  // 1.0, 007e1: a number for JSON.parse, and a text for the other
	valueText    valueKind = "text"        // no JSON
	valueBinary  valueKind = "binary"      // no UTF-8
	valueForeign valueKind = "envelope"    // redisopt's own form
)

// kindOf tells what clients make of a value; cut says that it goes on.
func kindOf(value string, cut bool) valueKind {
	if strings.HasPrefix(value, "\xffRC") || strings.HasPrefix(value, "~rc1:") {
		return valueForeign
	}
	if cut { // perhaps in the middle of a character
		for n := 1; n < utf8.UTFMax && n < len(value) && !utf8.ValidString(value); n++ {
			if shorter := value[:len(value)-n]; utf8.ValidString(shorter) {
				value = shorter
			}
		}
	}
	if !utf8.ValidString(value) {
		return valueBinary
	}
	text := strings.Trim(value, " \t\r\n")
	if cut && text != "" {
		switch text[0] { // what begins so and is this long is no number
		case '{', '[':
			return valueSame
		case '"':
			return valueString
		}
		return valueText
	}
	if text == "" || !json.Valid([]byte(text)) {
		return valueText
	}
	switch text[0] {
	case '"':
		return valueString
	case '{', '[', 't', 'f', 'n':
		return valueSame
	}
	if javaScript(text) == value {
		return valueNumber
	}
	return valueOddNum
}

// javaScript is how JavaScript writes a number.
func javaScript(text string) string {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return ""
	}
	switch a := math.Abs(f); {
	case f == 0:
		return "0"
	case a < 1e-6 || a >= 1e21:
		mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
		return mantissa + "e" + exponent[:1] + strings.TrimLeft(exponent[1:], "0")
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

const (
	proofPage  = 200
	proofBatch = 50
	proofBytes = 16 << 10 // of each value
)

// prove looks at values of the old side, at most plan.Prove commands. It only reads: SCAN, and GETRANGE for
// each key.
func (p *Phase1) prove(ctx context.Context) (Proof, error) {
	out := Proof{Whole: true}
	patterns := []string{"*"}
	if len(p.plan.KeyPrefixes) > 0 {
		patterns = nil
		for _, prefix := range p.plan.KeyPrefixes {
			patterns = append(patterns, globLiteral(prefix)+"*")
		}
	}
	counts := map[string]*ProofCounts{}
	for i, pattern := range patterns {
		// Each pattern has its part of what is left.
		limit := out.Commands + (p.plan.Prove-out.Commands)/int64(len(patterns)-i)
		var cursor uint64
		for {
			if out.Commands >= limit {
				out.Whole = false
				break
			}
			keys, next, err := p.client.ScanType(ctx, cursor, pattern, proofPage, "string").Result()
			if err != nil {
				return out, fmt.Errorf("look for values to prove: %w", err)
			}
			out.Commands++
			keys = slices.DeleteFunc(keys, notCache)
			if room := limit - out.Commands; int64(len(keys)) > room {
				keys, out.Whole = keys[:max(0, room)], false
			}
			if err := p.look(ctx, keys, counts, &out); err != nil {
				return out, err
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	for _, prefix := range slices.Sorted(maps.Keys(counts)) {
		out.Prefixes = append(out.Prefixes, *counts[prefix])
	}
	return out, nil
}

// notCache is whether a key belongs to a queue, a limiter or ourselves, whose values only their library reads.
func notCache(key string) bool {
	for _, prefix := range []string{"bull:", "bullmq:", "asynq:", "redisopt:", "{redisopt", "rate_limit:", "sms_rate_limit:", "@upstash/ratelimit"} {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

func (p *Phase1) look(ctx context.Context, keys []string, counts map[string]*ProofCounts, out *Proof) error {
	for batch := range slices.Chunk(keys, proofBatch) {
		if err := p.env.Pace.Wait(ctx, len(batch)); err != nil {
			return err
		}
		values := make([]*redis.StringCmd, len(batch))
		if _, err := p.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i, key := range batch {
				values[i] = pipe.GetRange(ctx, key, 0, proofBytes-1)
			}
			return nil
		}); err != nil {
			return fmt.Errorf("look at values to prove: %w", err)
		}
		out.Commands += int64(len(batch))
		for i, key := range batch {
			value := values[i].Val()
			if value == "" {
				continue // gone meanwhile, or empty
			}
			out.Sampled++
			first, _, more := strings.Cut(key, ":")
			if !more {
				first = "(no prefix)"
			}
			c := counts[first]
			if c == nil {
				c = &ProofCounts{Prefix: first, Found: map[valueKind]int64{}, examples: map[valueKind][]string{}}
				counts[first] = c
			}
			kind := kindOf(value, len(value) == proofBytes)
			c.Sampled++
			c.Found[kind]++
			if len(c.examples[kind]) < 3 {
				c.examples[kind] = append(c.examples[kind], ramp.Redact(key))
			}
		}
	}
	return nil
}

// proofProblems are what the values mean for those who read and write them. What breaks the old reader keeps
// phase 1 from beginning.
func (p *Phase1) proofProblems(proof Proof) []migrate.Problem {
	out := []migrate.Problem{}
	applications := slices.ContainsFunc(p.plan.Routes, func(r string) bool { return !own(r) })
	for _, c := range proof.Prefixes {
		say := func(kind valueKind, rule string, blocking bool, message, fix string) {
			if c.Found[kind] == 0 {
				return
			}
			out = append(out, migrate.Problem{
				Rule: rule, Subject: c.Prefix, Blocking: blocking, Fix: fix,
				Message: fmt.Sprintf("%d of %d values under %s %s: %s", c.Found[kind], c.Sampled, c.Prefix, message, strings.Join(c.examples[kind], ", ")),
			})
		}
		if p.plan.Writer == UpstashWriter {
			say(valueString, "old-reader-breaks", true,
				"are texts in quotes, which @upstash/redis writes back without them, and JSON.parse of the old reader throws or gives another type",
				"write through deploy/node/ramp.mjs, or JSON.stringify every value before set; then plan with --writer same")
		}
		say(valueBinary, "value-binary", applications,
			"are not UTF-8, which the client on the new side does not carry unchanged",
			"keep them out of the route, or store them as base64")
		say(valueOddNum, "value-type-changes", false,
			"are numbers that JSON.parse reads as numbers and automatic deserialisation as texts",
			"make the new client with automaticDeserialization: false")
		say(valueNumber, "value-type-changes", false,
			"are numbers, which automatic deserialisation gives as numbers and a plain get of the old client as texts",
			"make the new client with automaticDeserialization: false, or expect numbers")
		say(valueText, "value-not-json", false,
			"are no JSON, so JSON.parse throws on them today: whoever reads them reads texts",
			"use getText and setText for them, not get and set")
	}
	return out
}

// A phase1Proof looks whether the values of the old side survive the new client.
type phase1Proof struct{ phase *Phase1 }

func (s *phase1Proof) Name() string { return phase1Values }

func (s *phase1Proof) Apply(ctx context.Context) error {
	p := s.phase
	proof, err := p.prove(ctx)
	if err != nil {
		return err
	}
	if err := (migrate.Outline{Target: p.Target(), Problems: p.proofProblems(proof)}).Refused(); err != nil {
		return err
	}
	return p.env.Note(ctx, phase1Values, proof)
}

func (s *phase1Proof) Verify(context.Context) error {
	var proof Proof
	if s.phase.env.Checkpoint == nil || s.phase.env.Recall(phase1Values, &proof) {
		return nil
	}
	return migrate.ErrNotApplied
}

func (s *phase1Proof) Rollback(context.Context) error { return nil }
