package sidecar

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/cache"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// writeCertificate writes a certificate for 127.0.0.1 that signs itself, under a name.
func writeCertificate(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBothDoorsSpeakTLSAndTakeANewCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeCertificate(t, dir, "first")
	s := sources(t, nil, "serve: {tls_cert: "+filepath.Join(dir, "cert.pem")+", tls_key: "+filepath.Join(dir, "key.pem")+"}")
	load := func() (*config.Config, error) { return config.Load(s) }
	conf, err := load()
	if err != nil {
		t.Fatal(err)
	}
	reload := make(chan struct{})
	r := run(t, conf, Options{Embedded: true, Load: load, Reload: reload})
	name := func(url string) string {
		// The certificate signs itself; the test looks at its name instead.
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.Header.Get("Redisopt-Instance") != r.Instance {
			t.Errorf("%s does not name its instance", url)
		}
		return resp.TLS.PeerCertificates[0].Subject.CommonName
	}
	for _, url := range []string{"https://" + r.API + "/healthz", "https://" + r.Gateway + "/ping"} {
		if got := name(url); got != "first" {
			t.Errorf("%s shows certificate %q", url, got)
		}
	}
	writeCertificate(t, dir, "second")
	reload <- struct{}{}
	for _, url := range []string{"https://" + r.API + "/healthz", "https://" + r.Gateway + "/ping"} {
		eventually(t, "the new certificate", func() bool { return name(url) == "second" })
	}
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload <- struct{}{}
	eventually(t, "a wrong certificate is refused", func() bool { return strings.Contains(r.Log.String(), "the certificate before") })
	if got := name("https://" + r.API + "/healthz"); got != "second" {
		t.Errorf("after a wrong certificate: %q", got)
	}
}

func TestTokensChangeWhileItRuns(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "redisopt.yaml")
	write := func(token, allow string) {
		t.Helper()
		text := "serve: {tokens: [{name: app, token: " + token + ", gateway: write, scopes: [limit]}], gateway: {allow: [" + allow + "]}}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("the-first-of-the-tokens", "")
	s := sources(t, nil, "")
	s.File, s.ReadFile = file, os.ReadFile
	load := func() (*config.Config, error) { return config.Load(s) }
	conf, err := load()
	if err != nil {
		t.Fatal(err)
	}
	reload := make(chan struct{})
	r := run(t, conf, Options{Embedded: true, Load: load, Reload: reload})
	with := func(token, body string) int {
		code, _ := ask(t, http.MethodPost, "http://"+r.Gateway, body, "Authorization", "Bearer "+token)
		return code
	}
	if got := with("the-first-of-the-tokens", `["DBSIZE"]`); got != 200 {
		t.Errorf("before: %d", got)
	}
	if got := with("the-first-of-the-tokens", `["FLUSHDB"]`); got != 400 && got != 403 {
		t.Errorf("FLUSHDB before it is allowed: %d", got)
	}
	write("the-second-of-the-tokens", "FLUSHDB")
	reload <- struct{}{}
	eventually(t, "the new token is taken", func() bool { return with("the-second-of-the-tokens", `["DBSIZE"]`) == 200 })
	if got := with("the-first-of-the-tokens", `["DBSIZE"]`); got != 401 {
		t.Errorf("the old token: %d, want 401", got)
	}
	if got := with("the-second-of-the-tokens", `["FLUSHDB"]`); got != 200 {
		t.Errorf("FLUSHDB once it is allowed: %d", got)
	}
	for token, want := range map[string]int{"the-first-of-the-tokens": 401, "the-second-of-the-tokens": 200} {
		if code, body := ask(t, http.MethodGet, "http://"+r.API+"/v1/limit/rules", "", "Authorization", "Bearer "+token); code != want {
			t.Errorf("the API with %s: %d %s, want %d", token, code, body, want)
		}
	}
	if log := r.Log.String(); strings.Contains(log, "of-the-tokens") || strings.Contains(log, eventRestart) {
		t.Errorf("the log shows a token, or asks for a restart:\n%s", log)
	}
}

func TestWhatIsConfiguredIsWhatTheEnginesTake(t *testing.T) {
	t.Parallel()
	env := map[string]string{"REDISOPT_LIMIT_HASH_KEY": strings.Repeat("h", 32), "REDISOPT_CACHE_KEYS": "k1:" + "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="}
	file := `
cache:
  jitter: 0
  l1_bytes: 0
  stale_on_error: 0s
  compress_from_bytes: 0
  classes: {MINE: {ttl: 10m, stale_for: 1m, l1_ttl: -1s}}
  namespaces: {user: {codec: json, class: USER_PROFILE, owner_parts: 1, guard: true, allow: [token]}}
limits:
  environment: staging
  instances: 3
  trusted_proxies: [10.0.0.0/8, 192.0.2.7]
  rules:
    login: {limit: 5, period: 15m, algorithm: token-bucket, burst: 2, by: ip, mode: warn, lease: "off", tiers: {pro: 50}}
    daily: {limit: 100, algorithm: calendar, time_zone: Europe/Berlin}
`
	conf := configured(t, env, file)
	server := redistest.Start(t)
	c := CacheOptions(conf)
	if c.Jitter != -1 || c.L1Bytes != -1 || c.StaleOnError != -1 || c.CompressFrom != -1 || len(c.Keys) != 1 {
		t.Errorf("what is off is not: %+v", c)
	}
	if got, want := c.Classes["MINE"], (cache.Class{TTL: 10 * time.Minute, StaleFor: time.Minute, L1TTL: -time.Second}); got != want {
		t.Errorf("class = %+v, want %+v", got, want)
	}
	c.Client = server.Client(t)
	built, err := cache.New(c)
	if err != nil {
		t.Fatalf("the cache refuses what the configuration takes: %v", err)
	}
	defer func() { _ = built.Close() }()
	l := LimitOptions(conf)
	if l.Prefix != "staging:"+limit.DefaultPrefix || l.Instances != 3 || len(l.Rules) != 4 {
		t.Errorf("limits = %+v", l)
	}
	if _, err := limit.New(l); err != nil {
		t.Errorf("the limiter refuses what the configuration takes: %v", err)
	}
	if proxies := APIOptions(conf).TrustedProxies; len(proxies) != 2 || proxies[1].String() != "192.0.2.7/32" {
		t.Errorf("trusted proxies = %v", proxies)
	}
}

func TestTheLogSaysLessWhenItIsToldTo(t *testing.T) {
	var out lockedBuffer
	level := &slog.LevelVar{}
	level.Set(LevelOf(config.LogWarn))
	log := NewLogger(&out, "mine", level)
	log.Info("config_unchanged")
	log.Warn("config_warning", "duration_ms", 1.5)
	if text := out.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, `"level":"WARN","event":"config_warning","service":"mine","duration_ms":1.5`) ||
		!strings.Contains(text, `"timestamp":"20`) || !strings.Contains(text, `Z"`) {
		t.Errorf("log = %s", text)
	}
}
