package gateway

import (
	"strconv"

	"github.com/valyala/fasthttp"
)

// appendHTTP appends the whole answer as HTTP, byte for byte as fasthttp writes it for head. Last is whether
// the connection ends with it.
func (n *headerNames) appendHTTP(dst []byte, rep *Reply, last bool) []byte {
	if rep.Status == 200 {
		dst = append(dst, "HTTP/1.1 200 OK\r\nContent-Type: "...)
	} else {
		dst = append(dst, "HTTP/1.1 "...)
		dst = strconv.AppendInt(dst, int64(rep.Status), 10)
		dst = append(dst, ' ')
		dst = append(dst, fasthttp.StatusMessage(rep.Status)...)
		dst = append(dst, "\r\nContent-Type: "...)
	}
	dst = append(dst, rep.ContentType...)
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(rep.Body)), 10)
	dst = append(dst, "\r\n"...)
	dst = append(dst, n.always...)
	dst = append(dst, rep.RequestID...)
	if rep.RetryAfter > 0 {
		dst = append(dst, "\r\nRetry-After: "...)
		dst = strconv.AppendInt(dst, int64(rep.RetryAfter), 10)
	}
	if last {
		dst = append(dst, "\r\nConnection: close"...)
	}
	dst = append(dst, "\r\n\r\n"...)
	return append(dst, rep.Body...)
}
