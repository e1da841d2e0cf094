package child

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// stageWord is the first argument of a copy of this program that is to become a command.
const stageWord = "redisopt-become-command"

// stageFailed is the exit code of a copy that could not become the command, as a shell has it.
const stageFailed = 126

// Staged is whether this process is a copy that is to become a command; main asks before anything else,
// and then exits with what Stage returns.
func Staged(args []string) bool { return len(args) > 1 && args[1] == stageWord }

// Stage sets limits and becomes the command. It returns only when that fails, having said why on stderr.
func Stage(args []string, stderr io.Writer) int {
	err := stage(args)
	_, _ = fmt.Fprintf(stderr, "redisopt: the command was not started: %s\n", err)
	return stageFailed
}

func stage(args []string) error {
	if len(args) < 4 {
		return fmt.Errorf("got %d arguments, want at least 4", len(args))
	}
	limits, err := parseLimits(args[2])
	if err != nil {
		return err
	}
	return become(limits, args[3:])
}

// staged is the program and the arguments that set limits and then become args.
func staged(limits Limits, args []string) (path string, all []string, err error) {
	if path, err = self(); err != nil {
		return "", nil, err
	}
	return path, append([]string{"redisopt", stageWord, limits.text()}, args...), nil
}

// text is what parseLimits reads.
func (l Limits) text() string {
	return fmt.Sprintf("%d,%d,%d,%d", l.seconds(), l.Memory, l.Files, l.FileSize)
}

func (l Limits) seconds() int64 { return int64((l.CPU + time.Second - 1) / time.Second) }

func parseLimits(text string) (Limits, error) {
	words := strings.Split(text, ",")
	if len(words) != 4 {
		return Limits{}, fmt.Errorf("limits: got %q, want four numbers", text)
	}
	var n [4]int64
	for i, word := range words {
		var err error
		if n[i], err = strconv.ParseInt(word, 10, 64); err != nil || n[i] < 0 {
			return Limits{}, fmt.Errorf("limits: got %q, want a number", word)
		}
	}
	return Limits{CPU: time.Duration(n[0]) * time.Second, Memory: n[1], Files: n[2], FileSize: n[3]}, nil
}
