package source

import (
	"github.com/dop251/goja/ast"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/source/script"
)

// eventNeverEmitted finds listeners for events that BullMQ does not have.
func eventNeverEmitted(f *facts) {
	for _, m := range f.scripts {
		script.Walk(m.file.Program, func(n ast.Node) bool {
			_, name, call, ok := methodCall(n)
			if !ok || name != "on" && name != "once" || len(call.ArgumentList) == 0 {
				return true
			}
			event, ok := call.ArgumentList[0].(*ast.StringLiteral)
			if !ok || event.Value != "ioredis:reconnecting" {
				return true
			}
			f.found(place{mod: m, at: event.Idx}, inspect.Finding{
				Severity: inspect.Warning, Subject: event.Value.String(),
				Message: "BullMQ never emits this event, so reconnects go unseen",
				Remedy:  "listen to 'reconnecting' on the ioredis instance that the worker is given",
			})
			return true
		})
	}
}
