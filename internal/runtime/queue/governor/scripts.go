package governor

import (
	"crypto/sha1" //nolint:gosec // it is what Redis names a script by
	"encoding/hex"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// A script is what one of asynq's scripts does, as far as it matters here.
type script int

const (
	unknownScript script = iota
	enqueueScript
	enqueueUniqueScript
	dequeueScript
	doneScript
	doneUniqueScript
	completeScript
	completeUniqueScript
	requeueScript
	addToGroupScript
	addToGroupUniqueScript
	scheduleScript
	scheduleUniqueScript
	retryScript
	archiveScript
	forwardScript
	checkGroupScript
	readSetScript
	deleteSetScript
	reclaimSetsScript
	deleteExpiredScript
	listExpiredScript
	writeServerScript
	clearServerScript
	inspectScript // reads, or changes nothing that a worker waits for
	runScript     // makes jobs pending, as an operator does
)

// pinned are the scripts of asynq v0.26.0 by their SHA-1, which is the name a Redis knows them by. A test
// hashes the scripts of the module in go.mod and fails when one is not here.
func pinned() map[string]script {
	return map[string]script{
		"98d28b42650870a743450ffda9791e9e19c6991b": enqueueScript,
		"297b3f9abfd963a3316434ef9d88fc5bf8a7ddc3": enqueueUniqueScript,
		"a8153319360adc71cdc370107f8ab9786f204765": dequeueScript,
		"1241eaa1c73409baaf1fea0c08d203a4911bda15": doneScript,
		"a2631c71357a54b4c3e7450b1757e7f3f49d6c81": doneUniqueScript,
		"117dca952700588e559c7ace20b925096d587974": completeScript,
		"ce6833ccce362a8c0ee53beee413341daf52e39c": completeUniqueScript,
		"f34cbfd11d1fc8019af55b50c447fc68eb8b29e5": requeueScript,
		"074af2c5a4623800684c1b0e4e328c2500f06815": addToGroupScript,
		"deeb77b98fd021a8a0279d8e7dd11a8a4546611a": addToGroupUniqueScript,
		"8ce6b38a99b73194585c251eb3c2a89559f37a87": scheduleScript,
		"e9b8aa859a976a1fce09eaf723b4fccd02ba799e": scheduleUniqueScript,
		"65fa409c88198a681c53e0892d8276eca0145694": retryScript,
		"9c3b1eb9947ce2ee5304ac013a0a365ec364fd2d": archiveScript,
		"522b1a6ae66fe79ea2f24a9af58798ab71879035": forwardScript,
		"a3812898e6caa8ef58d4cda34cd41a1023157e43": checkGroupScript,
		"74ba718a5ed06d87a29e289ce500f34eac8759fc": readSetScript,
		"f78335554f1a49a26ac08c02e9f50237e38fae18": deleteSetScript,
		"7c08714194a1ed81153180b36590c51f1ccd7d42": reclaimSetsScript,
		"49c4326d80c1db9c476da2aa7f4438d03688f82b": deleteExpiredScript,
		"16988a462595f6ee317be300951533b004f27f5c": listExpiredScript,
		"3c8548ad44d0dfcfde50f07ea9271d77f656042c": writeServerScript,
		"79cf8dbc80deca37314fdfdeb9fe33a12c9baad7": clearServerScript,
		"313393fb34cf7668d3ae712d88666ce651da3861": inspectScript, // writes the entries of a scheduler
		"5feb3e91ca9086f0335575fa366ac2b94ec7b886": inspectScript, // writes the history of a scheduler
		"8495598cb6d9a2efdaf2ae98021a8f4ef1803b3d": inspectScript, // current statistics
		"0c80fc1868e3aae205155ae2017ce995a3a7cec0": inspectScript, // memory usage
		"21ba63720a304c8939d592261cb5f6aeacdecad1": inspectScript, // statistics of days past
		"1463a65d3fd6698099862e1314658984affe6ed7": inspectScript, // one task
		"767783fddcb7e4702c368fd352ae6a3d9393d273": inspectScript, // groups
		"e33b162cbcaa58a573d0f5a5067b4c3e2246e079": inspectScript, // lists
		"8ce4326dbba042f10ec098fa779168e0a9e8c6c8": inspectScript, // sorted sets
		"ec6970a9c80b182f05628a1377dcfee7df765fb4": inspectScript, // servers, workers, schedulers
		"95d6ff8ea96c4e9441a0d202a7babf13c5421285": runScript,     // a whole group
		"2fb646810e3433bbe85fba1a6b407eb3eced7b63": runScript,     // one task
		"1d0a1f59e02d7de4c1ffdc680ba4f5984b1a590c": runScript,     // all of a state
		"0f24d56b49f2c17216165b5df7914bc75b10c33e": inspectScript, // archives a group
		"c78daecbbe3c90b1d8d3470c5c68132818fbdf21": inspectScript, // archives what is pending
		"c3183bd2c882c715c12e3e44b9c09df7d91de1ad": inspectScript, // archives one task
		"7f02b3d3e0a1e6e4ad5aaac4a558573b7b5aa95e": inspectScript, // archives all of a state
		"a0bdc8d8212813666a7df7c612f4b6ee09df0b2d": inspectScript, // changes a payload
		"ffa79e9140e5aafb8e967e8d3e5f4eaefb648091": inspectScript, // deletes one task
		"87a4d4356874805c7c2132b517c0587b9021aba2": inspectScript, // deletes all of a state
		"e90e63534c2b576147c8426713da4c8270138a89": inspectScript, // deletes a group
		"8c58fe6e892f2c0a29249a47799023654d4551c9": inspectScript, // deletes what is pending
		"a095473ab1d8e275758ea446baa43bb582eac0a8": inspectScript, // removes a queue by force
		"d3473f4c26d0b12bcf434f271d79f9f8431b549c": inspectScript, // removes an empty queue
	}
}

// A call is one run of a script, taken apart.
type call struct {
	script  script
	command string // evalsha or eval
	keys    []string
	rawKeys []any // shared with the command, as is args: what is changed there is sent
	args    []any
	take    uint64 // of the job, when it was sent
}

// parse takes a command apart; ok is false for one that runs no script.
func parse(cmd redis.Cmder, known map[string]script) (call, bool) {
	args := cmd.Args()
	if len(args) < 3 {
		return call{}, false
	}
	name, _ := args[0].(string)
	body, _ := args[1].(string)
	switch name {
	case "evalsha", "evalsha_ro":
	case "eval", "eval_ro":
		sum := sha1.Sum([]byte(body)) //nolint:gosec // see above
		body = hex.EncodeToString(sum[:])
	default:
		return call{}, false
	}
	n, err := number(args[2])
	if err != nil || n < 0 || int(n) > len(args)-3 {
		return call{command: name}, true
	}
	c := call{script: known[body], command: name, rawKeys: args[3 : 3+int(n)], args: args[3+int(n):]}
	c.keys = make([]string, 0, n)
	for _, k := range c.rawKeys {
		c.keys = append(c.keys, text(k))
	}
	return c, true
}

// queue is whose keys the script is given.
func (c call) queue() string {
	for _, k := range c.keys {
		if q, _, ok := takeApart(k); ok {
			return q
		}
	}
	return ""
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return fmt.Sprint(v)
}
