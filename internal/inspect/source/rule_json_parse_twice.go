package source

import "github.com/redisopt/redisopt/internal/inspect"

// jsonParseTwice finds JSON.parse on what @upstash/redis has parsed already.
func jsonParseTwice(f *facts) {
	for _, c := range f.sent {
		if c.client == nil || c.client.library != Upstash || c.client.option("automaticDeserialization") == false {
			continue
		}
		for _, at := range c.parsed {
			f.found(at, inspect.Finding{
				Severity: inspect.Critical, Subject: c.name,
				Message: "@upstash/redis parses replies itself, so JSON.parse gets an object and throws",
				Remedy:  "use the reply as it is, or automaticDeserialization: false in the client while both formats are read",
			})
		}
	}
}
