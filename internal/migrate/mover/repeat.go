package mover

// A Repeat is a job that comes again: a Bull repeatable or a BullMQ job scheduler.
type Repeat struct {
	// Key names it at the source: Bull's repeat key, or BullMQ's scheduler id.
	Key string `json:"key"`

	// TargetKey is what it will be called at the target.
	TargetKey string `json:"target_key"`

	// Name is the job name, "__default__" for an unnamed one.
	Name string `json:"name"`

	// JobID is the repeat's own jobId in Bull; empty when none was given.
	JobID string `json:"job_id,omitempty"`

	// Hash is the 32 hex digits in the id of its Bull occurrence; empty if the source is BullMQ.
	Hash string `json:"hash,omitempty"`

	// Pattern is the cron expression, and EveryMS the interval in milliseconds; one of the two is set.
	Pattern string `json:"pattern,omitempty"`
	EveryMS int64  `json:"every_ms,omitempty"`

	// TZ is the IANA time zone of Pattern; empty means the worker's own.
	TZ string `json:"tz,omitempty"`

	// Limit is the most runs there will be; 0 means no limit. Count is the ordinal of the next run.
	Limit int64 `json:"limit,omitempty"`
	Count int64 `json:"count"`

	// StartMS and EndMS bound the runs, Unix milliseconds; 0 means unbounded.
	StartMS int64 `json:"start_ms,omitempty"`
	EndMS   int64 `json:"end_ms,omitempty"`

	// NextMS is when it runs next, Unix milliseconds.
	NextMS int64 `json:"next_ms"`

	// PendingID is the id of the job that waits for that run; empty when there is none.
	PendingID string `json:"pending_id,omitempty"`
}
