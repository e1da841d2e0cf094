package record

import (
	"time"

	"github.com/redisopt/redisopt/internal/inspect"
)

// A Count is how many commands somebody sent and what became of them.
type Count struct {
	// Sent is the commands that left for the Redis.
	Sent int64 `json:"sent"`

	// InScript is the commands that their scripts ran there, as far as known.
	InScript int64 `json:"in_script"`

	// Billed is what the provider counts of both.
	Billed int64 `json:"billed"`

	// Work, Idle and Setup are Sent and InScript together, taken apart: Idle is polling that found
	// nothing and keep-alive, Setup is what opens and names a connection or loads a script.
	Work  int64 `json:"work"`
	Idle  int64 `json:"idle"`
	Setup int64 `json:"setup"`

	// BilledWork is the part of Work that the provider counts: what a budget for an endpoint or a test
	// is about, since it does not depend on when connections were opened.
	BilledWork int64 `json:"billed_work"`

	// Errors is the error replies.
	Errors int64 `json:"errors"`

	// BytesOut and BytesIn are the lengths of commands and of their replies.
	BytesOut int64 `json:"bytes_out"`
	BytesIn  int64 `json:"bytes_in"`
}

func (c *Count) add(o Count) {
	c.Sent += o.Sent
	c.InScript += o.InScript
	c.Billed += o.Billed
	c.Work += o.Work
	c.Idle += o.Idle
	c.Setup += o.Setup
	c.BilledWork += o.BilledWork
	c.Errors += o.Errors
	c.BytesOut += o.BytesOut
	c.BytesIn += o.BytesIn
}

// A Report is what was recorded: the data of record/v1. Whoever ran the command fills Command and Exit.
type Report struct {
	// Command is what was run, program first.
	Command []string `json:"command"`

	Began    time.Time     `json:"began"`
	Duration time.Duration `json:"-"`
	Seconds  float64       `json:"duration_s"`

	Exit  Exit  `json:"exit"`
	Redis Redis `json:"redis"`

	Provider Provider `json:"provider"`

	// Total is everything that was recorded.
	Total Count `json:"total"`

	Connections Connections `json:"connections"`

	// Sources are who sent commands, most billed work first. Tests are for which test, in the order in
	// which they began; commands outside of every test have the empty name.
	Sources []Source `json:"sources"`
	Tests   []Test   `json:"tests"`

	// Clients are connections by client name and library. Commands, Prefixes and Scripts say what was
	// sent. All have the most commands first.
	Clients  []Client  `json:"clients"`
	Commands []Command `json:"commands"`
	Prefixes []Prefix  `json:"prefixes"`
	Scripts  []Script  `json:"scripts"`
	Errors   []Failure `json:"errors"`

	Measures []inspect.Measure `json:"measures"`
	Findings []inspect.Finding `json:"findings"`

	// Missing names what could not be observed.
	Missing []string `json:"missing"`
}

// An Exit is how the command ended.
type Exit struct {
	Code   int    `json:"code"`
	Signal string `json:"signal,omitempty"` // that ended it
}

// Redis is what was recorded in front of.
type Redis struct {
	// Engine is "embedded" or "upstream".
	Engine string `json:"engine"`

	// Addr is the upstream's host:port, empty for the embedded one. Listen is the recorder's own.
	Addr   string `json:"addr,omitempty"`
	Listen string `json:"listen"`

	// InScript says how commands inside scripts are known: "exact", for each script; "total", for all
	// scripts together, as the server counted; "unknown".
	InScript string `json:"in_script"`
}

// Connections are the clients' connections over TCP.
type Connections struct {
	Opened int64 `json:"opened"`
	Peak   int   `json:"peak"`

	// Processes is how many processes were ever connected, as far as the system tells.
	Processes int `json:"processes"`

	// PeakPerProcess is the most that one process held at a time; 0 where the system does not tell.
	PeakPerProcess int `json:"peak_per_process"`

	// Left is how many were open when the recording ended.
	Left int `json:"left"`

	// Refused is how many could not be carried to the Redis.
	Refused int64 `json:"refused"`

	// HTTPRequests is the requests through the gateway, which hold no connection.
	HTTPRequests int64 `json:"http_requests"`
}

// A Source is one part of the application.
type Source struct {
	// Name is what it called itself, or its program where it did not.
	Name string `json:"name"`

	// Named says how the name is known: "mark", "environment", "user", "header" or "process".
	Named string `json:"named"`

	// PeakConnections is the most connections it held at a time.
	PeakConnections int `json:"peak_connections"`

	Count
}

// A Test is one test, or one endpoint or job: whatever was marked.
type Test struct {
	// Name is what it was called; empty for what was sent outside of every test.
	Name string `json:"name"`

	// Source is who sent its commands; several are joined by a comma.
	Source string `json:"source"`

	// Runs is how often it began. 0 for the environment of a process and for what is outside of tests.
	Runs int64 `json:"runs"`

	// MaxPerRun is the most billed work of one run, in commands.
	MaxPerRun int64 `json:"max_billed_work_per_run"`

	Count

	// Commands are its commands, the most first, at most 20.
	Commands []Calls `json:"commands"`
}

// Calls is how often a command was sent.
type Calls struct {
	Command string `json:"command"`
	Sent    int64  `json:"sent"`
}

// A Client is the connections of one client name, library and source.
type Client struct {
	Name        string `json:"name"` // by CLIENT SETNAME or HELLO, may be empty
	Library     string `json:"library"`
	Source      string `json:"source"`
	Connections int64  `json:"connections"`
	Count
}

// A Command is one command, as INFO commandstats spells it.
type Command struct {
	Command string `json:"command"`
	Count
}

// A Prefix is the commands whose first key begins so; ids in names are shown as *.
type Prefix struct {
	Prefix string `json:"prefix"`
	Count
}

// A Script is one script.
type Script struct {
	// SHA1 names it, or the function's name where it is one.
	SHA1 string `json:"sha1"`

	// Title is its first comment, empty where its text never passed.
	Title string `json:"title,omitempty"`

	Count
}

// A Failure is a kind of error reply.
type Failure struct {
	Code    string `json:"code"` // first word
	Text    string `json:"text"` // of the first one
	Command string `json:"command"`
	Count   int64  `json:"count"`
}
