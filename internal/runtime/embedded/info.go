package embedded

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sections of INFO in Redis' order. The last two come only when asked for, or with "all".
func infoSections() []string {
	return []string{"server", "clients", "memory", "persistence", "stats", "replication", "cpu", "errorstats", "cluster", "keyspace", "commandstats"}
}

// info is the reply to INFO with the given sections; an unknown one adds nothing, as in Redis.
func (m *memory) info(wanted []string) string {
	show := map[string]bool{}
	if len(wanted) == 0 {
		wanted = []string{"default"}
	}
	for _, w := range wanted {
		switch w = strings.ToLower(w); w {
		case "default":
			for _, s := range infoSections() {
				show[s] = show[s] || s != "commandstats"
			}
		case "all", "everything":
			for _, s := range infoSections() {
				show[s] = true
			}
		default:
			show[w] = true
		}
	}
	var parts []string
	for _, s := range infoSections() {
		if show[s] {
			parts = append(parts, "# "+strings.ToUpper(s[:1])+s[1:]+"\r\n"+m.section(s))
		}
	}
	return strings.Join(parts, "\r\n")
}

func (m *memory) section(name string) string {
	switch name {
	case "server":
		return m.infoServer()
	case "clients":
		return m.infoClients()
	case "memory":
		return infoMemory()
	case "persistence":
		return lines("loading:0", "async_loading:0", "aof_enabled:0", "rdb_bgsave_in_progress:0")
	case "stats":
		return m.infoStats()
	case "replication":
		return lines("role:master", "connected_slaves:0", "master_failover_state:no-failover", "master_replid:"+m.runID, "master_repl_offset:0")
	case "cluster":
		return lines("cluster_enabled:0")
	case "keyspace":
		return m.infoKeyspace()
	case "commandstats":
		return lines(m.stats.lines()...)
	}
	return "" // cpu and errorstats: a heading only
}

func (m *memory) infoServer() string {
	now := time.Now()
	up := int64(now.Sub(m.begun).Seconds())
	return lines(
		"redis_version:"+imitates,
		"redis_mode:standalone",
		"os:"+runtime.GOOS+" "+runtime.GOARCH,
		"arch_bits:"+strconv.Itoa(strconv.IntSize),
		"process_id:"+strconv.Itoa(os.Getpid()),
		"run_id:"+m.runID,
		"tcp_port:"+portOf(m.addr),
		"server_time_usec:"+strconv.FormatInt(now.UnixMicro(), 10),
		"uptime_in_seconds:"+strconv.FormatInt(up, 10),
		"uptime_in_days:"+strconv.FormatInt(up/86_400, 10),
		"config_file:",
		// Not of Redis: whoever reads this can tell that the store is in-process and volatile.
		"redisopt_embedded:1",
		"redisopt_volatile:1",
		"redisopt_plan:"+m.plan.Name,
	)
}

func (m *memory) infoClients() string {
	clients := m.clients()
	blocked := 0
	for _, c := range clients {
		c.mu.Lock()
		if c.state.blocked {
			blocked++
		}
		c.mu.Unlock()
	}
	return lines(
		"connected_clients:"+strconv.Itoa(len(clients)),
		"cluster_connections:0",
		"maxclients:"+strconv.Itoa(m.maxClients()),
		"blocked_clients:"+strconv.Itoa(blocked),
		"tracking_clients:0",
	)
}

// infoMemory gives the heap of the whole process: the store's share of it is not known.
func infoMemory() string {
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	return lines(
		"used_memory:"+strconv.FormatUint(ms.HeapAlloc, 10),
		"used_memory_rss:"+strconv.FormatUint(ms.Sys, 10),
		"maxmemory:0",
		"maxmemory_policy:noeviction",
		"mem_allocator:go",
	)
}

func (m *memory) infoStats() string {
	commands, failures := m.stats.totals()
	channels, patterns := map[string]struct{}{}, map[string]struct{}{}
	for _, c := range m.clients() {
		c.mu.Lock()
		maps.Copy(channels, c.state.subs)
		maps.Copy(patterns, c.state.psubs)
		c.mu.Unlock()
	}
	return lines(
		fmt.Sprintf("total_connections_received:%d", m.stats.connections.Load()),
		fmt.Sprintf("total_commands_processed:%d", commands),
		fmt.Sprintf("total_net_input_bytes:%d", m.stats.netIn.Load()),
		fmt.Sprintf("total_net_output_bytes:%d", m.stats.netOut.Load()),
		fmt.Sprintf("rejected_connections:%d", m.stats.refused.Load()),
		fmt.Sprintf("total_reads_processed:%d", m.stats.reads.Load()),
		fmt.Sprintf("total_writes_processed:%d", m.stats.writes.Load()),
		"evicted_keys:0",
		fmt.Sprintf("pubsub_channels:%d", len(channels)),
		fmt.Sprintf("pubsub_patterns:%d", len(patterns)),
		fmt.Sprintf("total_error_replies:%d", failures),
	)
}

func (m *memory) infoKeyspace() string {
	m.clock.advance()
	var out []string
	for i := range databases {
		db := m.db.DB(i)
		keys := db.Keys()
		if len(keys) == 0 {
			continue
		}
		expires, sum := 0, time.Duration(0)
		for _, k := range keys {
			if ttl := db.TTL(k); ttl > 0 {
				expires++
				sum += ttl
			}
		}
		avg := int64(0)
		if expires > 0 {
			avg = sum.Milliseconds() / int64(expires)
		}
		out = append(out, fmt.Sprintf("db%d:keys=%d,expires=%d,avg_ttl=%d", i, len(keys), expires, avg))
	}
	return lines(out...)
}

func lines(all ...string) string {
	if len(all) == 0 {
		return ""
	}
	return strings.Join(all, "\r\n") + "\r\n"
}

// newRunID is 40 hex digits, as Redis makes one for every start.
func newRunID() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func portOf(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	return port
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
