package transporttest_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
	"github.com/redisopt/redisopt/internal/runtime/upstream/transporttest"
)

// peers is where the Node packages are that the tests run against.
const peers = "../../../../testdata/peers"

// listen runs the emulator as its own program does, but on a free port of the loopback address only.
const listen = `
import { createApp } from "@humanwhocodes/upstash-redis-server";
import { serve } from "@hono/node-server";
const app = createApp({ token: process.env.URS_TOKEN, redisUrl: process.env.REDIS_URL });
serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, (info) => console.log(info.port));
process.stdin.on("end", () => process.exit(0)).resume();
`

// emulatorOver runs @humanwhocodes/upstash-redis-server in front of a server and returns its address.
func emulatorOver(t *testing.T, s *redistest.Server) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("needs node on PATH")
	}
	if _, err := os.Stat(filepath.Join(peers, "node_modules/@humanwhocodes/upstash-redis-server")); err != nil {
		t.Skip("needs npm ci in testdata/peers")
	}
	cmd := exec.CommandContext(t.Context(), node, "--input-type=module", "-e", listen)
	cmd.Dir = peers
	cmd.Env = append(os.Environ(), "URS_TOKEN="+token, "REDIS_URL="+s.URL())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = in.Close()
		_ = cmd.Wait()
		t.Fatalf("the emulator did not start: %v\n%s", err, complaints.String())
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return "http://127.0.0.1:" + strings.TrimSpace(port)
}

func TestRESTOverAnEmulatorThatIsNotOurs(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	rest := upstream.REST{URL: emulatorOver(t, s), Token: token}
	transporttest.Run(t, func(t *testing.T) *upstream.Upstream {
		t.Helper()
		return open(t, upstream.Options{REST: rest})
	}, transporttest.Caps{
		Server: look(t, s),
		Without: map[string]string{
			"transactions":                         "it has no /multi-exec",
			"transactions that fail":               "it has no /multi-exec",
			"subscriptions by name and by pattern": "it has no /subscribe",
		},
	})
}
