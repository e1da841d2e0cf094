package source

import (
	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/source/script"
)

// syntaxFinding reports a file that cannot be read. The rest of the scan goes on without it.
func syntaxFinding(rel string, e *script.SyntaxError) inspect.Finding {
	return inspect.Finding{
		Rule: "syntax-error", Severity: inspect.Warning, Subject: rel, File: rel, Line: e.Line, Column: e.Column,
		Message: "the file cannot be parsed, so what it makes is not counted: " + e.Text,
		Remedy:  "correct it, or leave it out with --exclude " + rel,
	}
}
