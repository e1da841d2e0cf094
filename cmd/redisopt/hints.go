package main

// hintFor says what to type next after err. It is empty where the error already says so.
func hintFor(err error, code int) string {
	switch code {
	case exitUsage:
		return "redisopt help lists the commands, redisopt COMMAND --help shows examples"
	case exitInterrupted:
		return "nothing is lost; run the same command again to go on"
	}
	return ""
}
