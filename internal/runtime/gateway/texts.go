package gateway

import "strconv"

// The errors of the protocol. Clients tell them apart by their beginning, so that is what the service says,
// word for word; what follows is ours.
const (
	textToken          = "WRONGPASS invalid or missing auth token. See docs/gateway.md of redisopt for details."
	textMethod         = "ERR method not allowed. Use HEAD, GET, POST or PUT"
	textFormat         = "ERR invalid response format. Upstash-Response-Format is json or resp2"
	textEncoding       = "ERR invalid encoding. Upstash-Encoding is base64 or not sent"
	textResp2Base      = "ERR invalid response format. resp2 cannot be combined with base64"
	textResp2Multi     = "ERR invalid response format. /multi-exec answers in json only"
	textEmpty          = "ERR empty command"
	textEmptyPipe      = "ERR empty pipeline request"
	textDown           = "ERR the Redis behind the gateway cannot be reached; the command was not sent"
	textLost           = "ERR the connection to the Redis broke before the reply; the command may have run"
	textTimeout        = "ERR no reply from the Redis in time; the command may have run"
	textBusy           = "ERR too many commands wait for the Redis; the command was not sent"
	textLane           = "ERR the one connection for MONITOR and WATCH is in use"
	textReply          = "ERR the Redis sent something that is not a reply; the command may have run"
	textNoBell         = "ERR subscriptions are not available through this gateway"
	textNoMonitor      = "ERR MONITOR is switched off in this gateway"
	textMonitored      = "ERR another client is monitoring; there is one connection for it"
	textDefect         = "ERR the gateway met a defect of its own"
	textNoSubscription = "ERR the subscription could not be made; the Redis cannot be reached or refuses it"
)

func textNotREST(name string) string {
	return `ERR Command "` + name + `" is not allowed in REST or it has a special context path`
}

func textUnavailable(name string) string {
	return "ERR Command is not available: '" + name + "'. See docs/gateway.md of redisopt for details"
}

func textNoPermission(name string) string {
	return "NOPERM this user has no permissions to run the '" + name + "' command or its subcommand"
}

func textRequestSize(limit, actual int) string {
	return "ERR max request size exceeded. Limit: " + strconv.Itoa(limit) + " bytes, Actual: " + strconv.Itoa(actual) + " bytes"
}

func textBodySize(limit int) string {
	return "ERR max request size exceeded. Limit: " + strconv.Itoa(limit) + " bytes of body"
}

func textPipelineSize(limit int) string {
	return "ERR max pipeline size exceeded. Limit: " + strconv.Itoa(limit) + " commands"
}

func textRate(perSecond int64) string {
	return "ERR max requests per second exceeded. Limit: " + strconv.FormatInt(perSecond, 10)
}

func textConcurrent(limit int64) string {
	return "ERR max concurrent requests exceeded. Limit: " + strconv.FormatInt(limit, 10)
}
