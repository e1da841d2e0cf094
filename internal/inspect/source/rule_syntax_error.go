package source

import (
	"errors"
	"go/scanner"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/source/script"
)

// goSyntax reports a Go file that cannot be read.
func goSyntax(rel string, err error) inspect.Finding {
	e := &script.SyntaxError{Text: err.Error()}
	if list, ok := errors.AsType[scanner.ErrorList](err); ok && len(list) > 0 {
		e = &script.SyntaxError{Line: list[0].Pos.Line, Column: list[0].Pos.Column, Text: list[0].Msg}
	}
	return syntaxFinding(rel, e)
}

// syntaxFinding reports a file that cannot be read. The rest of the scan goes on without it.
func syntaxFinding(rel string, e *script.SyntaxError) inspect.Finding {
	return inspect.Finding{
		Rule: "syntax-error", Severity: inspect.Warning, Subject: rel, File: rel, Line: e.Line, Column: e.Column,
		Message: "the file cannot be parsed, so what it makes is not counted: " + e.Text,
		Remedy:  "correct it, or leave it out with --exclude " + rel,
	}
}
