package record

import (
	"net"
	"strings"
)

// The variables that name a process, read from its environment as it was when it started.
const (
	SourceVariable = "REDISOPT_SOURCE"
	TestVariable   = "REDISOPT_TEST"
)

// A process is one that is or was connected. The lock of the books guards it.
type process struct {
	pid     int
	command string
	source  string
	how     string
	env     *run // test of its environment
	test    *run // test that it said it runs
	open    int
	peak    int
}

// processes finds out who connects.
type processes struct {
	known []int // the processes that were found, the last one first
}

// of is the process at the other end of nc. Where the system does not tell, all connections count as one
// process, without a name.
func (p *processes) of(b *books, nc net.Conn) *process {
	pid := p.find(nc.RemoteAddr().String(), nc.LocalAddr().String())
	b.mu.Lock()
	defer b.mu.Unlock()
	if found, ok := b.processes[pid]; ok {
		return found
	}
	if len(b.processes) >= b.opts.MaxRows {
		pid = 0
		if rest, ok := b.processes[0]; ok {
			return rest
		}
	}
	made := &process{pid: pid}
	if pid > 0 {
		made.command = program(argvOf(pid))
		source, test := environmentOf(pid)
		if source != "" {
			made.source, made.how = cut(strings.ToValidUTF8(source, "\uFFFD"), maxNameBytes), "environment"
		}
		if test != "" {
			made.env = b.run(cut(strings.ToValidUTF8(test, "\uFFFD"), maxNameBytes))
		}
	}
	b.processes[pid] = made
	return made
}
