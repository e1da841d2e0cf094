package gateway_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/runtime/gateway"
)

// TestPythonSDK plays requests in the form in which upstash-redis for Python documents and sends them:
// always POST, one command as a list, base64 by default, its telemetry headers, the sync token of the
// answer before, and bodies as json.dumps writes them. The file is in order, since requests build on
// each other.
func TestPythonSDK(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/python-sdk.json")
	if err != nil {
		t.Fatal(err)
	}
	var requests []struct {
		Name, Path, Body string
		Headers          map[string]string
		Status           int
		Response         any
	}
	if err := json.Unmarshal(raw, &requests); err != nil {
		t.Fatal(err)
	}
	url, _ := start(t, gateway.Options{})
	sync := ""
	for _, r := range requests {
		t.Run(r.Name, func(t *testing.T) {
			headers := []string{
				"Content-Type: application/json", "Accept: */*", "User-Agent: python-requests/2.32.3", "Accept-Encoding: gzip, deflate",
				"Upstash-Encoding: base64", "Upstash-Sync-Token: " + sync,
				"Upstash-Telemetry-Sdk: py-upstash-redis@v1.4.0", "Upstash-Telemetry-Runtime: python@v3.12.3", "Upstash-Telemetry-Platform: unknown",
			}
			for name, value := range r.Headers {
				headers = append(headers, name+": "+value)
			}
			got := ask(t, "POST", url+r.Path, r.Body, headers...)
			var response any
			if err := json.Unmarshal([]byte(got.body), &response); err != nil {
				t.Fatalf("%s: %v", got.body, err)
			}
			if diff := cmp.Diff(r.Response, response); got.status != r.Status || diff != "" {
				t.Errorf("status %d, want %d; response differs (-want +got):\n%s", got.status, r.Status, diff)
			}
			if sync = got.header.Get(gateway.SyncHeader); sync == "" {
				t.Error("no sync token")
			}
		})
	}
}
