package api

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
)

// revalidate lets a client keep an answer and ask whether it still holds; nobody between may keep it.
const revalidate = "private, no-cache"

// etag is a strong entity tag of content.
func etag(content []byte) string {
	sum := sha256.Sum256(content)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// matches is whether a list of entity tags, as If-Match and If-None-Match have it, names tag or "*".
func matches(list, tag string) bool {
	for candidate := range strings.SplitSeq(list, ",") {
		candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
		if candidate == tag || candidate == "*" {
			return true
		}
	}
	return false
}

// notModified is an answer without a body. It travels as an error because huma's outputs have one.
func notModified(headers http.Header) *problemError {
	p := newProblem(http.StatusNotModified, "not_modified", "Not modified", "", "")
	p.headers = headers
	return p
}
