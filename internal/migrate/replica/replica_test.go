package replica

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestEveryReplicaIsAskedAndOneThatIsGoneHidesNoOther(t *testing.T) {
	t.Parallel()
	var told map[string]any
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"detail":"no token"}`)
			return
		}
		switch r.Method + " " + r.URL.Path {
		case "GET /v1/control":
			_, _ = io.WriteString(w, `{"ramps":{"cache":25,"other":7},"kill":["limit"]}`)
		case "POST /v1/control":
			if err := json.NewDecoder(r.Body).Decode(&told); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(w, `{}`)
		case "GET /v1/fleet":
			_, _ = io.WriteString(w, `{"holders":[{"replica":"a"},{"replica":"b"}]}`)
		case "GET /v1/ramp":
			_, _ = io.WriteString(w, `{"epoch":3,"configured":true,"routes":[{"name":"cache","percent":25}]}`)
		case "GET /v1/ramp/stats":
			_, _ = fmt.Fprintf(w, `{"covered":1,"routes":[{"name":"cache","new":{"calls":%d}}]}`, len(r.URL.Query()))
		}
	}))
	defer up.Close()
	f := Fleet{URLs: []string{"http://127.0.0.1:1", up.URL + "/"}, Token: "secret", Timeout: time.Minute}
	ramps := f.Ramps(t.Context())
	if ramps[0].Err == nil || strings.Contains(ramps[0].Err.Error(), "secret") || ramps[1].Err != nil || ramps[1].Said.Route("cache").Percent != 25 {
		t.Errorf("Ramps = %+v, want the first unreachable and the second's 25", ramps)
	}
	if s := f.Stats(t.Context(), time.Now().Add(-time.Hour), time.Now()); s[1].Err != nil || s[1].Said.Route("cache").New.Calls != 2 {
		t.Errorf("Stats = %+v, want both times in the query", s)
	}
	if s := f.Override(t.Context(), Override{Ramps: map[string]float64{"cache": 0}, Kill: []string{"phase1"}, Reason: "why"}); s[1].Err != nil {
		t.Fatal(s[1].Err)
	}
	if got := fmt.Sprint(told); got != "map[kill:[limit phase1] ramps:map[cache:0 other:7] reason:why]" {
		t.Errorf("told %s, want what is not named to stay", got)
	}
	if s := f.Override(t.Context(), Override{Back: true, Reason: "why"}); s[1].Err != nil || fmt.Sprint(told["ramps"]) != "map[cache:0 other:0]" {
		t.Errorf("told %v, %v; want every route back", told, s[1].Err)
	}
	if names, err := f.Members(t.Context()); err != nil || fmt.Sprint(names) != "[a b]" {
		t.Errorf("Members = %v, %v; want those that the second knows", names, err)
	}
	f.Token = "wrong"
	var refused *StatusError
	if err := f.Ramps(t.Context())[1].Err; !errors.As(err, &refused) || refused.Status != 401 || refused.Detail != "no token" {
		t.Errorf("with a wrong token: %v, want what the replica said", err)
	}
}

func TestAReplicaWithACertificateOfItsOwnIsTrustedWhenSaidSo(t *testing.T) {
	t.Parallel()
	up := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"epoch":3}`)
	}))
	defer up.Close()
	f := Fleet{URLs: []string{up.URL}, Timeout: time.Minute}
	if a := f.Ramps(t.Context())[0]; a.Err == nil || !strings.Contains(a.Err.Error(), "certificate") {
		t.Errorf("Ramps of a server that nobody vouches for = %+v, want it refused", a)
	}
	var err error
	if f.Client, err = Trusting(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: up.Certificate().Raw})); err != nil {
		t.Fatal(err)
	}
	if a := f.Ramps(t.Context())[0]; a.Err != nil || a.Said.Epoch != 3 {
		t.Errorf("Ramps = %+v, want epoch 3", a)
	}
	if _, err := Trusting([]byte("no certificate")); err == nil {
		t.Error("Trusting of no certificate = nil, want an error")
	}
}
