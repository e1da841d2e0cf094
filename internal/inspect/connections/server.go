package connections

import (
	"strconv"
	"strings"
)

// A Server is what INFO says about the server itself.
type Server struct {
	Version  string `json:"version"`
	Provider string `json:"provider"` // "redis", "valkey" or "upstash"
	RunID    string `json:"-"`
	// UptimeSeconds is 0 when the server does not say.
	UptimeSeconds int64 `json:"uptime_s"`

	maxClients int
	connected  int
	received   int64 // connections accepted since start, -1 unknown
	rejected   int64
}

// ParseServer reads the reply of INFO. What it does not find stays empty.
func ParseServer(info string) Server {
	f := InfoFields(info)
	s := Server{
		Version:       f["redis_version"],
		Provider:      "redis",
		RunID:         f["run_id"],
		UptimeSeconds: max(number(f, "uptime_in_seconds"), 0),
		maxClients:    int(max(number(f, "maxclients"), 0)),
		connected:     int(number(f, "connected_clients")),
		received:      number(f, "total_connections_received"),
		rejected:      number(f, "rejected_connections"),
	}
	switch {
	case f["upstash_version"] != "":
		s.Provider, s.Version = "upstash", f["upstash_version"]
	case f["valkey_version"] != "":
		s.Provider, s.Version = "valkey", f["valkey_version"]
	}
	return s
}

// InfoFields splits the reply of INFO into its fields, headings dropped.
func InfoFields(info string) map[string]string {
	f := make(map[string]string)
	for line := range strings.SplitSeq(info, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if k, v, ok := strings.Cut(line, ":"); ok {
			f[k] = v
		}
	}
	return f
}

// number is -1 for a field that is absent or no number.
func number(f map[string]string, key string) int64 {
	n, err := strconv.ParseInt(f[key], 10, 64)
	if err != nil {
		return -1
	}
	return n
}
