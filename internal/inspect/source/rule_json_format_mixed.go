package source

import (
	"fmt"

	"github.com/redisopt/redisopt/internal/inspect"
)

// jsonFormatMixed finds values that @upstash/redis writes in a form which readers with another client
// cannot read: it writes text as it is, and they JSON.parse it.
func jsonFormatMixed(f *facts) {
	var reader *command
	for _, c := range f.sent {
		if c.client != nil && c.client.library != Upstash && len(c.parsed) > 0 {
			reader = c
			break
		}
	}
	if reader == nil {
		return
	}
	file, line, _, _ := where(reader.parsed[0])
	for _, c := range f.sent {
		if c.client == nil || c.client.library != Upstash || c.name != "set" && c.name != "setex" || len(c.args) < 2 {
			continue
		}
		v := c.args[1]
		if c.name == "setex" && len(c.args) > 2 {
			v = c.args[2]
		}
		if u, ok := v.(*unknown); ok && u.from != nil && u.from.name == "JSON.stringify" {
			continue
		}
		switch v.(type) {
		case *object, *array, float64, bool:
			continue // written as JSON
		}
		f.found(c.place, inspect.Finding{
			Severity: inspect.Warning, Subject: c.name,
			Message: fmt.Sprintf("@upstash/redis writes a string without quotes, and JSON.parse at %s:%d throws on it while both clients are in use", file, line),
			Remedy:  "write JSON.stringify(value) until nothing reads with the other client",
		})
	}
}
