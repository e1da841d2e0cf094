package control

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// attempts bounds how often a change is tried when others change the document meanwhile.
const attempts = 10

// ErrContended means that others changed the document each time a change was tried.
var ErrContended = errors.New("the control document was changed by others at each of 10 attempts; try again")

// errTooLong ends what took longer than Options.Timeout.
var errTooLong = errors.New("no answer in time")

// absent is the expected epoch where there must be no document.
const absent = "absent"

// set replaces the document if its epoch is the expected one, and rings the bell:
//
//	KEYS[1] the document    ARGV 1 expected epoch or "absent", 2 new document, 3 its epoch,
//	                             4 channel, 5 schema
//
// It answers {1} when it did, {0, document} when the epoch is another, {-1, document} when the schema
// is a newer one, {-2} when what is there is no document.
const set = `
local now = redis.call('GET', KEYS[1])
if now then
  local ok, doc = pcall(cjson.decode, now)
  if not ok or type(doc) ~= 'table' or type(doc.epoch) ~= 'number' or type(doc.schema) ~= 'number' then
    return {-2, ''}
  end
  if doc.schema > tonumber(ARGV[5]) then
    return {-1, now}
  end
  if ARGV[1] == 'absent' or doc.epoch ~= tonumber(ARGV[1]) then
    return {0, now}
  end
elseif ARGV[1] ~= 'absent' then
  return {0, ''}
end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('PUBLISH', ARGV[4], ARGV[3])
return {1, ''}
`

// channel is the bell's.
func (c *Control) channel() string { return c.opts.Key + ":changed" }

// Read asks the upstream for the document, 1 command. A *SchemaError or *DamagedError means that there
// is one that cannot be taken; what was in force stays so.
func (c *Control) Read(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.opts.Timeout, errTooLong)
	defer cancel()
	text, err := c.opts.Client.Get(ctx, c.opts.Key).Bytes()
	var d Document
	switch {
	case errors.Is(err, redis.Nil):
		return c.lost()
	case err == nil:
		d, err = parse(text, "key "+c.opts.Key)
	default:
		err = fmt.Errorf("control: read %s: %w", c.opts.Key, err)
	}
	if err != nil {
		c.mu.Lock()
		c.readErr = err
		c.mu.Unlock()
		return err
	}
	return c.take(d, time.Now())
}

// lost notes that the upstream holds no document. One that was seen before stays in force: losing it
// must not start what was stopped.
func (c *Control) lost() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen, c.confirmed, c.readErr = 0, time.Now(), nil
	if c.stored.Epoch > 0 {
		c.readErr = fmt.Errorf("control: %s is gone from the upstream; epoch %d, the last one seen, stays in force", c.opts.Key, c.stored.Epoch)
	}
	return nil
}

// Update changes the document for all replicas: f is given the upstream's document, overrides aside
// (or a newer one that was seen before, where the upstream has lost it), and changes it, except its
// schema and epoch. When somebody else changed it meanwhile, f is called
// again with theirs, at most 10 times in all. f must not keep the pointer. Without an error the new
// document is in force here and ends an override of a lower epoch.
//
// It costs 1 script that runs 3 commands; 1 command more when the upstream was not read before, 1 when
// the script is not known there yet, and 1 script of 1 command for every attempt that was too late.
// After an error of the transport the change may have been made; Read tells.
func (c *Control) Update(ctx context.Context, f func(*Document) error) error {
	c.updating.Lock()
	defer c.updating.Unlock()
	c.mu.Lock()
	known := !c.confirmed.IsZero()
	c.mu.Unlock()
	if !known {
		if err := c.Read(ctx); err != nil {
			return err
		}
	}
	for range attempts {
		done, err := c.try(ctx, f)
		if done || err != nil {
			return err
		}
	}
	return ErrContended
}

// try makes one attempt, and reports whether it was the last one needed.
func (c *Control) try(ctx context.Context, f func(*Document) error) (bool, error) {
	c.mu.Lock()
	base, expected := c.stored.Clone(), absent
	if c.seen > 0 {
		expected = strconv.FormatInt(c.seen, 10)
	}
	highest := base.Epoch
	if c.override != nil {
		highest = max(highest, c.override.Epoch)
	}
	c.mu.Unlock()

	d := base.normal()
	d.Updated = time.Now()
	if err := f(&d); err != nil {
		return false, err
	}
	d.Schema, d.Epoch = Schema, highest+1
	if err := d.Validate(); err != nil {
		return false, fmt.Errorf("control: %w", err)
	}
	d = d.normal()
	text, err := d.MarshalJSON()
	if err != nil {
		return false, fmt.Errorf("control: %w", err)
	}
	if len(text) > maxBytes {
		return false, fmt.Errorf("control: the document is %d bytes long, want at most %d", len(text), maxBytes)
	}
	code, theirs, err := c.swap(ctx, expected, text, d.Epoch)
	switch {
	case err != nil:
		return false, fmt.Errorf("control: change %s: %w", c.opts.Key, err)
	case code == 1:
		return true, c.take(d, time.Now())
	case code == -2:
		return false, &DamagedError{"key " + c.opts.Key, "it has no schema and epoch"}
	case theirs == "":
		return false, c.lost()
	}
	other, err := parse([]byte(theirs), "key "+c.opts.Key)
	if err != nil {
		return false, err
	}
	return false, c.take(other, time.Now())
}

// swap runs the script.
func (c *Control) swap(ctx context.Context, expected string, text []byte, epoch int64) (code int64, theirs string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.opts.Timeout, errTooLong)
	defer cancel()
	reply, err := redis.NewScript(set).Run(ctx, c.opts.Client, []string{c.opts.Key},
		expected, text, epoch, c.channel(), Schema).Slice()
	if err != nil {
		return 0, "", err
	}
	if len(reply) != 2 {
		return 0, "", fmt.Errorf("the script answered with %d values, want 2", len(reply))
	}
	code, _ = reply[0].(int64)
	theirs, _ = reply[1].(string)
	if code == 1 {
		c.opts.InScript("evalsha", 3)
	} else {
		c.opts.InScript("evalsha", 1)
	}
	return code, theirs, nil
}
