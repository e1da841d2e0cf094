package main

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

var updateScripts = flag.Bool("update", false, "write golden files and the expectations of scripts anew")

// TestMain makes the test binary stand in for redisopt, so that scripts run the real main.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"redisopt": main})
}

// TestScripts runs testdata/script/*.txtar. Besides the usual commands of testscript there are:
//
//	redis [ARGS...]    starts a redis-server for this script and sets REDIS_URL
//	embedded           starts an embedded Redis for this script and sets REDIS_URL
//	redis-do WORD...   sends one command to REDIS_URL; its reply is the standard output
//	refused            sets REDIS_URL to an address where nothing listens
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		UpdateScripts:       *updateScripts,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Values[scriptTest{}] = env.T()
			name, value, _ := strings.Cut(hurried, "=")
			env.Setenv(name, value)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"redis":    scriptRedis,
			"embedded": scriptEmbedded,
			"redis-do": scriptDo,
			"refused":  scriptRefused,
		},
	})
}

// scriptTest is the key under which a script keeps its test.
type scriptTest struct{}

func scriptTB(ts *testscript.TestScript) testing.TB {
	tb, ok := ts.Value(scriptTest{}).(testing.TB)
	if !ok {
		ts.Fatalf("the script's test is no testing.TB")
	}
	return tb
}

func plain(ts *testscript.TestScript, neg bool) {
	if neg {
		ts.Fatalf("this command cannot be negated")
	}
}

func scriptRedis(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg)
	ts.Setenv("REDIS_URL", redistest.Start(scriptTB(ts), args...).URL())
}

func scriptEmbedded(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg)
	if len(args) > 0 {
		ts.Fatalf("usage: embedded")
	}
	tb := scriptTB(ts)
	server, err := embedded.Start(tb.Context(), embedded.Options{})
	ts.Check(err)
	tb.Cleanup(func() {
		if err := server.Close(); err != nil {
			tb.Errorf("close the embedded Redis: %v", err)
		}
	})
	ts.Setenv("REDIS_URL", server.URL())
}

func scriptDo(ts *testscript.TestScript, neg bool, args []string) {
	opts, err := redis.ParseURL(ts.Getenv("REDIS_URL"))
	ts.Check(err)
	// A command that was not answered in time must not be sent once more: it may have been done.
	opts.DialTimeout, opts.ReadTimeout, opts.WriteTimeout, opts.MaxRetries = time.Minute, time.Minute, time.Minute, -1
	client := redis.NewClient(opts)
	defer func() { _ = client.Close() }()
	words := make([]any, len(args))
	for i, word := range args {
		words[i] = word
	}
	reply, err := client.Do(scriptTB(ts).Context(), words...).Result()
	if failed := err != nil; failed != neg {
		ts.Fatalf("%s: %v, %v", strings.Join(args, " "), reply, err)
	}
	_, err = fmt.Fprintln(ts.Stdout(), reply)
	ts.Check(err)
}

func scriptRefused(ts *testscript.TestScript, neg bool, _ []string) {
	plain(ts, neg)
	// Nobody listens on the discard port of a test machine's loopback.
	ts.Setenv("REDIS_URL", "redis://127.0.0.1:9")
}
