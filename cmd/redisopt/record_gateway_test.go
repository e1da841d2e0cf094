package main

import (
	"os/exec"
	"testing"
)

func TestHeadersOfARequestNameItsTestAndSource(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl on PATH")
	}
	ask := func(headers, command string) string {
		return `curl -sSf -H "Authorization: Bearer $UPSTASH_REDIS_REST_TOKEN" ` + headers + ` -d '` + command + `' "$UPSTASH_REDIS_REST_URL"; `
	}
	doc, stderr := recordHere(t, 0, nil,
		ask(`-H 'Redisopt-Test: GET /users' -H 'Redisopt-Source: web'`, `["GET","user:1"]`)+
			ask(`-H 'Redisopt-Test: GET /users' -H 'Redisopt-Source: web'`, `["MGET","user:2","user:3"]`)+
			ask(`-H 'Redisopt-Test: POST /users' -H 'Redisopt-Source: web'`, `["EVAL","redis.call(\"incr\",KEYS[1]) return redis.call(\"incr\",KEYS[1])","1","a"]`))
	got := tests(doc)
	if got["GET /users"].BilledWork != 2 || got["POST /users"].BilledWork != 3 || got["POST /users"].InScript != 2 {
		t.Errorf("got %+v, want 2 and 3 commands\n%s", got, stderr)
	}
	if len(doc.Sources) != 1 || doc.Sources[0].Name != "web" || doc.Sources[0].Named != "header" {
		t.Errorf("sources %+v, want web", doc.Sources)
	}
	if doc.Connections.Opened != 0 || doc.Connections.HTTPRequests != 3 || len(doc.Findings) != 0 {
		t.Errorf("connections %+v, findings %v, want requests alone", doc.Connections, doc.Findings)
	}
}
