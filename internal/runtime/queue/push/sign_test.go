package push

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestSignaturesAreVerified(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	next := []byte("fedcba9876543210fedcba9876543210")
	body := []byte("body")
	header := func() http.Header {
		h := http.Header{}
		h.Set("Redisopt-Queue", "q")
		h.Set("Redisopt-Job-Id", "1")
		h.Set("Redisopt-Job-Name", "n")
		h.Set("Redisopt-Attempt", "1")
		return h
	}
	signed := func(secrets ...[]byte) http.Header {
		h := header()
		h.Set("Redisopt-Signature", signature(secrets, now, h, body))
		return h
	}
	with := func(h http.Header, name, value string) http.Header { h.Set(name, value); return h }
	// The same value is checked in the Node and Python examples' tests.
	if got, want := signed(secret()).Get("Redisopt-Signature"), "t=1800000000,v1="; !strings.HasPrefix(got, want) || len(got) != len(want)+64 {
		t.Errorf("signature %q", got)
	}
	for _, c := range []struct {
		name    string
		secrets [][]byte
		header  http.Header
		body    string
		at      time.Time
		want    error
	}{
		{"a good one", [][]byte{secret()}, signed(secret()), "body", now, nil},
		{"old receiver, both sign", [][]byte{secret()}, signed(next, secret()), "body", now, nil},
		{"receiver has both, old signs", [][]byte{next, secret()}, signed(secret()), "body", now, nil},
		{"at the end of the window", [][]byte{secret()}, signed(secret()), "body", now.Add(Window), nil},
		{"beyond the window", [][]byte{secret()}, signed(secret()), "body", now.Add(Window + time.Second), ErrStale},
		{"from the future", [][]byte{secret()}, signed(secret()), "body", now.Add(-Window - time.Second), ErrStale},
		{"another secret", [][]byte{next}, signed(secret()), "body", now, ErrForged},
		{"another body", [][]byte{secret()}, signed(secret()), "b0dy", now, ErrForged},
		{"another id", [][]byte{secret()}, with(signed(secret()), "Redisopt-Job-Id", "2"), "body", now, ErrForged},
		{"another name", [][]byte{secret()}, with(signed(secret()), "Redisopt-Job-Name", "m"), "body", now, ErrForged},
		{"another time", [][]byte{secret()}, with(signed(secret()), "Redisopt-Signature", strings.Replace(signed(secret()).Get("Redisopt-Signature"), "18", "19", 1)), "body", now, ErrForged},
		{"no secret", nil, signed(secret()), "body", now, ErrForged},
		{"none", [][]byte{secret()}, header(), "body", now, ErrUnsigned},
		{"another version", [][]byte{secret()}, with(header(), "Redisopt-Signature", "t=1800000000,v2=00"), "body", now, ErrUnsigned},
		{"no time", [][]byte{secret()}, with(header(), "Redisopt-Signature", "v1="+strings.Repeat("00", 32)), "body", now, ErrUnsigned},
	} {
		if err := Verify(c.secrets, c.header, []byte(c.body), c.at); !errors.Is(err, c.want) {
			t.Errorf("%s: Verify = %v, want %v", c.name, err, c.want)
		}
	}
	if err := Verify([][]byte{[]byte("short")}, signed(secret()), body, now); err == nil {
		t.Error("a short secret was taken")
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("t=1800000000,v1=00", "body")
	f.Add("t=,v1=,v1", "")
	f.Fuzz(func(t *testing.T, value, body string) {
		h := http.Header{"Redisopt-Signature": {value}}
		if err := Verify([][]byte{secret()}, h, []byte(body), time.Unix(1_800_000_000, 0)); err == nil {
			t.Fatalf("%q was taken", value)
		}
	})
}
