package governor

import "strings"

// What asynq names its keys. The keys of a queue share a hash tag, so that a cluster has them on one node.
const (
	queuePrefix   = "asynq:{"
	cancelChannel = "asynq:cancel"
	serversKey    = "asynq:servers"
	workersKey    = "asynq:workers"
)

// The parts of a queue that are looked at.
const (
	pendingPart   = "pending"
	activePart    = "active"
	leasePart     = "lease"
	scheduledPart = "scheduled"
	retryPart     = "retry"
	completedPart = "completed"
	archivedPart  = "archived"
	pausedPart    = "paused"
	groupsPart    = "groups"
	setsPart      = "aggregation_sets"
	taskPrefix    = "t:"
)

func keyOf(queue, part string) string { return queuePrefix + queue + "}:" + part }

// takeApart says of which queue a key is a part, and which. No queue has a name with "}:" in it.
func takeApart(key string) (queue, part string, ok bool) {
	rest, ok := strings.CutPrefix(key, queuePrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "}:")
}

// taskOf is the id of the job whose part of the queue it is.
func taskOf(part string) (string, bool) {
	id, ok := strings.CutPrefix(part, taskPrefix)
	return id, ok && id != ""
}
