package main

import (
	"io"
	"os"
	"runtime"

	"golang.org/x/term"
)

// defaultWidth is the width of the table format where there is no terminal to ask.
const defaultWidth = 80

// maxWidth keeps lines readable on very wide terminals.
const maxWidth = 140

// streams is what a command reads and writes, and what is known about it.
type streams struct {
	in  io.Reader
	out io.Writer // the answer
	err io.Writer // progress, notes, hints, errors

	// env looks up one environment variable; nil means an empty environment.
	env func(name string) (string, bool)

	// inTerminal, outTerminal and errTerminal say which streams are a person's terminal.
	inTerminal, outTerminal, errTerminal bool

	// width is the number of columns of the output terminal; 0 means unknown.
	width int

	// ansi is false where a terminal exists that does not understand escape sequences.
	ansi bool
}

// processStreams describes the streams of this process.
func processStreams(in, out, errs *os.File) streams {
	s := streams{
		in: in, out: out, err: errs,
		env:         os.LookupEnv,
		inTerminal:  term.IsTerminal(int(in.Fd())),
		outTerminal: term.IsTerminal(int(out.Fd())),
		errTerminal: term.IsTerminal(int(errs.Fd())),
		ansi:        true,
	}
	if s.outTerminal {
		if width, _, err := term.GetSize(int(out.Fd())); err == nil {
			s.width = width
		}
	}
	if runtime.GOOS == "windows" {
		// The old console prints escape sequences as text; the terminals that set these do not.
		s.ansi = s.getenv("WT_SESSION") != "" || s.getenv("ConEmuANSI") == "ON" || s.getenv("TERM") != ""
	}
	return s
}

// getenv returns the value of an environment variable, empty if it is not set.
func (s streams) getenv(name string) string {
	if s.env == nil {
		return ""
	}
	value, _ := s.env(name)
	return value
}

// columns is the width the table format may use.
func (s streams) columns() int {
	if s.width <= 0 {
		return defaultWidth
	}
	return min(s.width, maxWidth)
}

// colorful decides whether a stream gets colour: only on a terminal that understands it, and not
// where the user said no by --color=never, NO_COLOR or TERM=dumb. --color=always overrides all.
func (s streams) colorful(mode colorMode, terminal bool) bool {
	switch mode {
	case colorAlways:
		return true
	case colorNever:
		return false
	case colorAuto:
	}
	return terminal && s.ansi && s.getenv("NO_COLOR") == "" && s.getenv("TERM") != "dumb"
}
