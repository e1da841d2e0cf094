package cause

// summary is a cause in one sentence.
func summary(k Kind) string {
	switch k {
	case TLSMismatch:
		return "the client and the server do not agree on TLS"
	case TLSUntrusted:
		return "the client does not trust the server's certificate"
	case IdleClose:
		return "the server or the provider closes connections that are idle for long"
	case IdleNAT:
		return "a NAT gateway, load balancer or firewall forgets connections that are idle"
	case ConnectionLimit:
		return "the connections that the plan or maxclients allows are used up"
	case Quota:
		return "the commands or requests that the plan includes are used up"
	case DNS:
		return "the host's name cannot be resolved"
	case Auth:
		return "user or password are missing, wrong, or not allowed to do this"
	case Restart:
		return "the server restarted or another one took over"
	case Refused:
		return "nothing listens at the address"
	case Unreachable:
		return "the network does not lead to the server"
	case OutOfMemory:
		return "the server's memory is full and it refuses writes"
	}
	return ""
}

// next is what to do about a cause.
func next(k Kind) string {
	switch k {
	case TLSMismatch:
		return "use rediss:// (ioredis: tls: {}) where the server speaks TLS and redis:// where it does not; find out with: redisopt audit connections --redis-url rediss://HOST:PORT"
	case TLSUntrusted:
		return "give the client the authority that signed the certificate, and the host name that stands in it; do not switch verification off"
	case IdleClose:
		return "ping more often than the server's timeout (redis-cli CONFIG GET timeout; Upstash closes after hours), and reconnect on error: ioredis keepAlive and retryStrategy, go-redis ConnMaxIdleTime"
	case IdleNAT:
		return "switch TCP keep-alive on with less than the network's idle time, 60 s or less behind a cloud NAT (350 s on AWS, 240 s on Azure), or close idle connections sooner"
	case ConnectionLimit:
		return "redisopt audit connections shows who holds them and what sharing saves; close leaks or raise the limit"
	case Quota:
		return "redisopt audit commands shows who spends, redisopt audit plan what another plan costs"
	case DNS:
		return "check the host name in REDIS_URL: getent hosts HOST, in the container that logs the error"
	case Auth:
		return "put user and password into REDIS_URL, with @ : / in them escaped, and check them: redis-cli -u \"$REDIS_URL\" ping"
	case Restart:
		return "look into the server's log at that moment, and let clients reconnect and retry: retryStrategy, maxRetriesPerRequest"
	case Refused:
		return "check host and port, and that the server runs: redis-cli -h HOST -p PORT ping"
	case Unreachable:
		return "check network, VPN, security groups and firewall between there and the server"
	case OutOfMemory:
		return "redisopt audit keys shows what takes the memory and what never expires; free it or raise the plan"
	}
	return ""
}
