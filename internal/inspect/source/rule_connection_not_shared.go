package source

import (
	"fmt"

	"github.com/redisopt/redisopt/internal/inspect"
)

// connectionNotShared finds processes in which every queue and worker opens connections of its own.
func connectionNotShared(f *facts) {
	for _, run := range f.runs {
		f.shareBull(run)
		f.shareBullMQ(run)
	}
}

func (f *facts) shareBullMQ(run *run) {
	var plain, blocking []weighed
	var list []*construction
	for _, k := range run.ev.made {
		if k.library != BullMQ || k.link != own {
			continue
		}
		list = append(list, k)
		plain = append(plain, k.connections()...)
		if k.kind == Worker || k.kind == QueueEvents {
			blocking = append(blocking, weighed{k.guards, span{min: 1, max: 1}})
		}
	}
	now, after := total(plain), total(blocking)
	after = after.plus(span{min: 1, max: 1})
	if len(list) < 2 || now.max-after.max < 1 {
		return
	}
	k := list[0]
	connection, _ := likely(k.option("connection")).(*object)
	f.found(k.place, inspect.Finding{
		Severity: inspect.Warning, Subject: processName(run.start),
		Message: fmt.Sprintf("%g connections where one shared instance leaves %g: given options, every Queue opens 1 and every Worker 2; each Worker and QueueEvents keeps 1 of its own to block on",
			now.max, after.max),
		Remedy: "make one instance, new IORedis({ ..., maxRetriesPerRequest: null }), and pass it as connection everywhere" + literalText(connection),
		Fix:    f.shareFix(list, connection),
	})
}

func literalText(o *object) string {
	if o == nil {
		return ""
	}
	if file, line, _, ok := where(o.place); ok {
		return fmt.Sprintf(", instead of the options at %s:%d", file, line)
	}
	return ""
}

// shareFix makes an instance of the one options object that all of them were given.
func (f *facts) shareFix(list []*construction, o *object) *inspect.Fix {
	if o == nil || o.place.mod == nil {
		return nil
	}
	for _, k := range list {
		if other, _ := likely(k.option("connection")).(*object); other != o {
			return nil
		}
	}
	// A literal in the place of the option is made anew for each of them.
	if l, ok := list[0].options.props["connection"]; ok && l.node != nil && len(list) > 1 {
		if l.node.Idx0() == o.place.at && l.place.mod == o.place.mod {
			return nil
		}
	}
	edits, ok := wrapped(o, "new IORedis(", ")")
	if !ok {
		return nil
	}
	if !o.has("maxRetriesPerRequest") {
		e, ok := intoLiteral(o, "maxRetriesPerRequest: null")
		if !ok {
			return nil
		}
		edits = []inspect.Edit{edits[0], e, edits[1]}
	}
	file := o.place.mod.path
	edits = append([]inspect.Edit{{File: file, Line: 1, Column: 1, EndLine: 1, EndColumn: 1, Text: "import IORedis from 'ioredis';\n"}}, edits...)
	return fix("share one instance", edits...)
}

func (f *facts) shareBull(run *run) {
	var plain, blocking []weighed
	var list []*construction
	processing := false
	for _, k := range run.ev.made {
		if k.library != Bull || k.factory || k.link != own {
			continue
		}
		list = append(list, k)
		plain = append(plain, k.connections()...)
		if k.processed != nil {
			processing = true
			blocking = append(blocking, weighed{k.processed.guards, span{min: 1, max: 1}})
		}
	}
	now, after := total(plain), total(blocking).plus(span{min: 1, max: 1})
	if processing {
		after = after.plus(span{min: 1, max: 1})
	}
	if len(list) < 2 || now.max-after.max < 1 {
		return
	}
	f.found(list[0].place, inspect.Finding{
		Severity: inspect.Warning, Subject: processName(run.start),
		Message: fmt.Sprintf("%g connections where createClient leaves %g: every queue opens a client, and with process() a subscriber and a blocking client; only the last cannot be shared",
			now.max, after.max),
		Remedy: "pass createClient(type) to every queue: one client for 'client', one for 'subscriber', a new one for 'bclient', each with enableReadyCheck: false and maxRetriesPerRequest: null",
	})
}
