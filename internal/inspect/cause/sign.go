package cause

import "strings"

// A Kind is one cause.
type Kind string

// The causes.
const (
	TLSMismatch     Kind = "tls-mismatch"
	TLSUntrusted    Kind = "tls-untrusted"
	IdleClose       Kind = "idle-close"
	IdleNAT         Kind = "idle-nat"
	ConnectionLimit Kind = "connection-limit"
	Quota           Kind = "quota"
	DNS             Kind = "dns"
	Auth            Kind = "auth"
	Restart         Kind = "server-restart"
	Refused         Kind = "refused"
	Unreachable     Kind = "unreachable"
	OutOfMemory     Kind = "out-of-memory"
)

// A sign is what one text speaks for. Decisive ones name their cause; the others fit several.
type sign struct {
	name    string   // what is told to people
	texts   []string // lower case; any of them
	decides Kind
	fits    []Kind
	symptom bool // it only follows from another error
}

// signs are tried in order; the first one that matches counts.
func signs() []sign {
	return []sign{
		{name: "the server says that its connections are used up", decides: ConnectionLimit, texts: []string{
			"max number of clients reached", "max number of clients + cluster", "max concurrent connections exceeded",
		}},
		{name: "the provider says that the plan's commands are used up", decides: Quota, texts: []string{
			"max requests limit exceeded", "max daily request limit exceeded", "max commands per second",
		}},
		{name: "the server says that its memory is full", decides: OutOfMemory, texts: []string{
			"oom command not allowed", "db capacity quota exceeded", "misconf redis is configured to save",
		}},
		{name: "the server refuses the password", decides: Auth, texts: []string{
			"wrongpass", "noauth", "invalid password", "without any password configured", "invalid username-password", "noperm",
		}},
		{name: "the name of the host is not known", decides: DNS, texts: []string{
			"enotfound", "eai_again", "no such host", "server misbehaving", "getaddrinfo", "name or service not known",
			"temporary failure in name resolution", "nodename nor servname",
		}},
		{name: "the certificate is not trusted", decides: TLSUntrusted, texts: []string{
			"self-signed certificate", "self signed certificate", "unable to verify the first certificate", "unable to get local issuer",
			"certificate signed by unknown authority", "failed to verify certificate", "err_tls_cert_altname_invalid", "certificate has expired",
			"depth_zero_self_signed_cert", "hostname/ip does not match certificate",
		}},
		{name: "one side speaks TLS and the other does not", decides: TLSMismatch, texts: []string{
			"wrong version number", "does not look like a tls handshake", "ssl3_get_record", "packet length too long", "epriv: ssl",
			"before secure tls connection was established", "unknown protocol", "protocol error, got \"\\x15", "got \"\\u0015",
		}},
		{name: "the server is loading its data or changing over", decides: Restart, texts: []string{
			"loading redis is loading", "masterdown", "unblocked force unblock", "readonly you can't write against a read only", "clusterdown",
			"server is closing", "err shutdown",
		}},
		{name: "nothing listens at the address", fits: []Kind{Refused, Restart}, texts: []string{"econnrefused", "connection refused", "actively refused it"}},
		{name: "no way leads to the address", decides: Unreachable, texts: []string{"ehostunreach", "enetunreach", "no route to host", "network is unreachable"}},
		{name: "nothing answered while connecting", fits: []Kind{TLSMismatch, Unreachable}, texts: []string{
			"connect etimedout", "connection timeout", "dial tcp: i/o timeout", "connecttimeout",
		}},
		{name: "an open connection went silent", fits: []Kind{IdleNAT}, texts: []string{
			"read etimedout", "write etimedout", "command timed out", "socket timeout", "i/o timeout", "etimedout",
		}},
		{name: "the wait ended before an answer came", fits: []Kind{TLSMismatch, Unreachable, IdleNAT}, texts: []string{"context deadline exceeded"}},
		{name: "the connection was reset", fits: []Kind{TLSMismatch, IdleClose, IdleNAT, Restart, ConnectionLimit}, texts: []string{
			"econnreset", "connection reset by peer", "forcibly closed by the remote host",
		}},
		{name: "the connection was closed while it was being written to", fits: []Kind{ConnectionLimit, IdleClose, TLSMismatch}, texts: []string{
			"epipe", "broken pipe",
		}},
		{name: "the connection was closed", fits: []Kind{IdleClose, TLSMismatch, Restart, ConnectionLimit}, texts: []string{
			"socket closed unexpectedly", "unexpected eof", "use of closed network connection",
		}},
		{name: "a symptom of another error", symptom: true, texts: []string{
			"max retries per request limit", "connection is closed", "the client is closed", "connection in subscriber mode", "reconnecting",
		}},
	}
}

// signOf is the sign that text shows; nil for a text that is none of a connection.
func signOf(all []sign, text string) *sign {
	lower := strings.ToLower(text)
	if strings.Contains(lower, "dial tcp") && strings.Contains(lower, "i/o timeout") {
		return signOf(all, "connect etimedout")
	}
	for i := range all {
		for _, t := range all[i].texts {
			if strings.Contains(lower, t) {
				return &all[i]
			}
		}
	}
	if trimmed := strings.TrimSpace(lower); trimmed == "eof" || strings.HasSuffix(trimmed, ": eof") {
		return signOf(all, "socket closed unexpectedly")
	}
	return nil
}
