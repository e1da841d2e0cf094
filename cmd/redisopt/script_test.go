package main

import (
	"flag"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var updateScripts = flag.Bool("update", false, "write what commands print into the scripts that compare it")

// TestMain makes the test binary be redisopt itself where a script runs it.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"redisopt": main})
}

// TestScripts runs every script in testdata/script against the real program, each in an empty
// directory with an environment of its own that names no Redis.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *updateScripts,
		RequireExplicitExec: true,
	})
}
