package connections

import (
	"time"

	"github.com/redisopt/redisopt/internal/inspect"
)

// A Role is what a connection is for.
type Role string

// The roles. Those of a queue library are told by name, command, subscription and arithmetic; those of
// the rest of an application (cache to pool) by the name it gave, and failing that by the last command.
const (
	RoleWorker       Role = "worker"        // blocks for jobs: Bull's bclient, a BullMQ Worker's blocking half
	RoleWorkerClient Role = "worker-client" // a BullMQ Worker's ordinary half
	RoleQueueClient  Role = "queue-client"  // Bull's client, a BullMQ Queue or FlowProducer
	RoleSubscriber   Role = "subscriber"    // Bull's subscriber
	RoleEvents       Role = "queue-events"  // a BullMQ QueueEvents
	RoleShared       Role = "shared-client" // one instance behind several queues
	RoleCache        Role = "cache"
	RoleLimiter      Role = "limiter"
	RoleSMS          Role = "sms-limiter"
	RolePool         Role = "pool"
	RolePubSub       Role = "pubsub"  // a subscriber that is no queue library's
	RoleApp          Role = "app"     // an application's client that is none of the above
	RoleReplica      Role = "replica" // replication links and MONITOR are the server's business
	RoleMonitor      Role = "monitor"
	RoleUnknown      Role = "unknown"
)

// A Library is the queue library behind a connection.
type Library string

// The libraries told apart. LibraryNone is an application connection that is no queue library's.
const (
	LibraryBull   Library = "bull"
	LibraryBullMQ Library = "bullmq"
	LibraryEither Library = "bull-or-bullmq" // the name says queue, no command has shown which library yet
	LibraryNone   Library = ""
)

// A Confidence says how an attribution was reached.
type Confidence string

// The confidences, from the strongest.
const (
	Certain    Confidence = "certain"       // name, flags or command allow nothing else
	Arithmetic Confidence = "by arithmetic" // the numbers of a process allow nothing else, taken together
	Likely     Confidence = "likely"        // fits, but other readings exist
	Unsure     Confidence = "unknown"
)

// A Connection is one client connection with what is known about it.
type Connection struct {
	ID          int64         `json:"id"`
	Node        string        `json:"node,omitempty"` // server it is connected to; set only on a cluster
	Addr        string        `json:"addr"`
	Name        string        `json:"name,omitempty"`
	Role        Role          `json:"role"`
	Library     Library       `json:"library,omitempty"`
	Prefix      string        `json:"prefix,omitempty"`
	Queue       string        `json:"queue,omitempty"`
	Worker      string        `json:"worker,omitempty"`
	Process     string        `json:"process"` // id of a Process
	Confidence  Confidence    `json:"confidence"`
	Why         string        `json:"why"`
	Own         bool          `json:"own,omitempty"` // one of ours, not counted
	LastCommand string        `json:"last_command,omitempty"`
	Driver      string        `json:"driver,omitempty"`
	Age         time.Duration `json:"-"`
	Idle        time.Duration `json:"-"`
	AgeSeconds  int64         `json:"age_s"`
	IdleSeconds int64         `json:"idle_s"`

	client Client
}

// A Process holds connections: a process of this host when the kernel's tables name one, otherwise
// everything that comes from one host.
type Process struct {
	ID          string `json:"id"` // "pid 4711 (node)" or "host 10.0.0.3"
	Host        string `json:"host"`
	PID         int    `json:"pid,omitempty"` // 0 when not known
	Command     string `json:"command,omitempty"`
	Connections int    `json:"connections"`
	Unnamed     int    `json:"unnamed"` // connections without a name
	Own         bool   `json:"own,omitempty"`
}

// A Queue is one queue as seen through its connections. A connection shared by several queues counts
// for none of them.
type Queue struct {
	Prefix      string  `json:"prefix"`
	Queue       string  `json:"queue"`
	Library     Library `json:"library"`
	Connections int     `json:"connections"`
	Workers     int     `json:"workers"`
	Events      int     `json:"queue_events"`
	Processes   int     `json:"processes"`

	// Version is what the queue's meta key says opened it last, such as "bullmq:5.81.5"; only with Deep.
	Version string `json:"version,omitempty"`
}

// A Sharing says how one process connects its queues, and what sharing would make of it.
type Sharing struct {
	Process     string  `json:"process"`
	Library     Library `json:"library"`
	Queues      int     `json:"queues"`
	Workers     int     `json:"workers"`
	Events      int     `json:"queue_events"`
	Connections int     `json:"connections"`
	Shared      bool    `json:"shared"`
	IfShared    int     `json:"if_shared"` // connections of this process when everything shareable is shared
	Explain     string  `json:"explain"`

	processes int // at least; a host may hide several
}

// A Phase is what a migration phase would leave, computed from the measured roles.
type Phase struct {
	Phase   string `json:"phase"`  // "now", "phase1" …
	Target  string `json:"target"` // what is done
	Left    int    `json:"left"`
	Removed int    `json:"removed"`

	// LessPercent is how much less than now, in percent; 0 when nothing changes.
	LessPercent float64        `json:"less_percent"`
	Formula     string         `json:"formula"`
	Inputs      map[string]int `json:"inputs"`
}

// A Limit is how many connections the server or plan allows.
type Limit struct {
	Connections int     `json:"connections"` // 0 when not known
	Source      string  `json:"source"`      // "maxclients", "--limit"
	HeadRoom    int     `json:"head_room"`
	UsedPercent float64 `json:"used_percent"`

	// Rejected is how many connections the server refused at its limit since it started; -1 when not known.
	Rejected int64 `json:"rejected_since_start"`
}

// A Count is a number of connections under one heading.
type Count struct {
	Name        string `json:"name"`
	Connections int    `json:"connections"`
}

// A Report is one audit of the connections of a server.
type Report struct {
	At          time.Time         `json:"at"`
	Server      Server            `json:"server"`
	Total       int               `json:"total"` // without ours
	Own         int               `json:"own"`
	Unknown     int               `json:"unknown"`
	Limit       Limit             `json:"limit"`
	Roles       []Count           `json:"roles"`
	Libraries   []Count           `json:"libraries"`
	Queues      []Queue           `json:"queues"`
	Processes   []Process         `json:"processes"`
	Sharing     []Sharing         `json:"sharing"`
	Phases      []Phase           `json:"phases"`
	Connections []Connection      `json:"connections"`
	Measures    []inspect.Measure `json:"measures"`
	Findings    []inspect.Finding `json:"findings"`

	// Missing names what could not be observed and why; empty when the picture is whole.
	Missing []string `json:"missing"`

	// Commands is how many commands the audit sent; all of them read.
	Commands int `json:"commands"`

	accepted int64
	infos    map[string]Info
	infoErr  error
}

// An Info is one node's reply of INFO.
type Info struct {
	At   time.Time
	Text string
}

// Counters returns the reply of INFO by node, the name empty unless the server is a cluster. It was
// read together with the list of clients; with Options.Counters it has the command counters. The error
// is a server's refusal of INFO.
func (r *Report) Counters() (map[string]Info, error) { return r.infos, r.infoErr }

// Complete reports that every connection of the server was seen.
func (r *Report) Complete() bool { return r.Connections != nil }

// Commands is how many commands the connection has sent since it was opened, not counting what its
// scripts ran; -1 where the server does not say.
func (c Connection) Commands() int64 { return c.client.Commands }

// Accepted is how many connections the server has accepted since it started, over all nodes; -1 where
// it does not say.
func (r *Report) Accepted() int64 { return r.accepted }
