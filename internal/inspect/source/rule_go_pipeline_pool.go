package source

import "github.com/redisopt/redisopt/internal/inspect"

// goPipelinePool finds clients of go-redis with a bound on their pool that pipelines do not keep to.
func goPipelinePool(f *facts) {
	for _, s := range f.sites {
		k := s.first()
		if k.library != GoRedis || !k.goClient.pipeline || field(k.goClient.options, "PoolSize") == nil && field(k.goClient.options, "MaxActiveConns") == nil {
			continue
		}
		f.found(k.place, inspect.Finding{
			Severity: inspect.Warning, Subject: "go-redis client",
			Message: "PoolSize and MaxActiveConns do not bound pipelines: since v9.23 they open up to 10 connections of their own",
			Remedy:  "PipelinePoolSize: -1 in the same options, so that pipelines use the one pool",
			Fix:     goField(k, "PipelinePoolSize: -1"),
		})
	}
}

// goField puts a field into a struct literal that begins and goes on in one line of its own.
func goField(k *construction, text string) *inspect.Fix {
	lit := k.goClient.options
	if lit == nil || k.place.pos == nil || k.lbrace.file == "" {
		return nil
	}
	comma := ", "
	if len(lit.Elts) == 0 {
		comma = ""
	}
	at := k.lbrace
	return fix("add "+text, inspect.Edit{
		File: at.file, Line: at.line, Column: at.column + 1, EndLine: at.line, EndColumn: at.column + 1, Text: text + comma,
	})
}
