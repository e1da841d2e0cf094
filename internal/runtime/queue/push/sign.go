package push

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Names of headers that are signed, and of the signature.
const (
	headerQueue     = "Redisopt-Queue"
	headerID        = "Redisopt-Job-Id"
	headerName      = "Redisopt-Job-Name"
	headerAttempt   = "Redisopt-Attempt"
	headerAttempts  = "Redisopt-Attempts"
	headerDeadline  = "Redisopt-Deadline"
	headerSignature = "Redisopt-Signature"
	headerKey       = "Idempotency-Key"
	headerOther     = "Redisopt-Header-"
)

// Window is how far the time in a signature may be from the receiver's: what is older was recorded by
// somebody and played again.
const Window = 5 * time.Minute

// minSecret is the fewest bytes of a secret.
const minSecret = 16

// What Verify finds.
var (
	// ErrUnsigned means that there is no signature, or not one of this form.
	ErrUnsigned = errors.New("the request has no signature of version v1")

	// ErrStale means that the time in the signature is more than Window away.
	ErrStale = errors.New("the request was signed too long ago, or the clocks differ")

	// ErrForged means that no secret has made the signature.
	ErrForged = errors.New("the signature does not belong to the request")
)

// Verify is whether one of secrets has signed the request of these headers and body, at most Window
// before or after now. It takes the same time whatever is wrong with the signature.
func Verify(secrets [][]byte, header http.Header, body []byte, now time.Time) error {
	at, given, err := parseSignature(header.Get(headerSignature))
	if err != nil {
		return err
	}
	matched := false
	for _, secret := range secrets {
		if len(secret) < minSecret {
			return fmt.Errorf("a secret has %d bytes, want at least %d", len(secret), minSecret)
		}
		want := sign(secret, at, header, body)
		for _, g := range given {
			if hmac.Equal(want, g) {
				matched = true
			}
		}
	}
	if !matched {
		return ErrForged
	}
	if age := now.Unix() - at; age > int64(Window/time.Second) || age < -int64(Window/time.Second) {
		return fmt.Errorf("%w: it is %d s old", ErrStale, age)
	}
	return nil
}

func parseSignature(text string) (at int64, given [][]byte, err error) {
	at = -1
	for part := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch key {
		case "t":
			if at, err = strconv.ParseInt(value, 10, 64); err != nil || at < 0 {
				return 0, nil, ErrUnsigned
			}
		case "v1":
			if sum, err := hex.DecodeString(value); err == nil && len(sum) == sha256.Size && len(given) < 4 {
				given = append(given, sum)
			}
		}
	}
	if at < 0 || len(given) == 0 {
		return 0, nil, ErrUnsigned
	}
	return at, given, nil
}

// sign is the HMAC of what the receiver sees. Lines cannot contain a newline, so no part can pass for
// another.
func sign(secret []byte, at int64, header http.Header, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	_, _ = fmt.Fprintf(mac, "v1\n%d\n", at)
	for _, name := range []string{headerQueue, headerID, headerName, headerAttempt} {
		_, _ = io.WriteString(mac, header.Get(name)+"\n")
	}
	_, _ = mac.Write(body)
	return mac.Sum(nil)
}

// signature is the value of the signature's header.
func signature(secrets [][]byte, at time.Time, header http.Header, body []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "t=%d", at.Unix())
	for _, secret := range secrets {
		b.WriteString(",v1=" + hex.EncodeToString(sign(secret, at.Unix(), header, body)))
	}
	return b.String()
}
