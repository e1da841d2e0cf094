package source

import (
	"github.com/dop251/goja/ast"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/source/script"
)

// jobIDBlocks finds jobs with an id of their own whose failure is kept: while the failed job is there,
// no other with that id is ever added.
func jobIDBlocks(f *facts) {
	for _, m := range f.scripts {
		script.Walk(m.file.Program, func(n ast.Node) bool {
			_, name, call, ok := methodCall(n)
			if !ok || name != "add" && name != "addBulk" {
				return true
			}
			script.Walk(call, func(n ast.Node) bool {
				o, ok := n.(*ast.ObjectLiteral)
				if !ok || literalProp(o, "jobId") == nil {
					return true
				}
				keep := literalProp(o, "removeOnFail")
				if keep == nil || !isFalse(keep) {
					return true
				}
				at := place{mod: m, at: keep.Idx0()}
				var change *inspect.Fix
				if o, ok := originalAt(at); ok && o.starts("false") {
					change = fix("remove failed jobs", o.replace(len("false"), "true"))
				}
				f.found(at, inspect.Finding{
					Severity: inspect.Critical, Subject: "jobId",
					Message: "one failure blocks this id for ever: a failed job that is kept makes every later add with its jobId do nothing",
					Remedy:  "removeOnFail: true, or deduplication: { id } with a ttl in BullMQ instead of jobId",
					Fix:     change,
				})
				return true
			})
			return true
		})
	}
}
