package mux

import (
	"bytes"
	"errors"
)

var errNotCommand = errors.New("what was written is not a command in RESP")

// maxArgs and maxArg bound one command, as a Redis does.
const (
	maxArgs = 1 << 20
	maxArg  = 512 << 20
)

// ParseCommand finds the command at the beginning of b, an array of bulk strings. Its arguments, which
// point into b, are appended to args; n is its length, 0 if it is not whole yet. An empty command has a
// length and no arguments. Inline commands are errors.
func ParseCommand(b []byte, args [][]byte) (_ [][]byte, n int, _ error) {
	count, at, err := parseLength(b, '*', maxArgs)
	if err != nil || at == 0 {
		return args, 0, err
	}
	for range count {
		size, used, err := parseLength(b[at:], '$', maxArg)
		if err != nil || used == 0 {
			return args, 0, err
		}
		at += used
		end := at + size
		if len(b) < end+2 {
			return args, 0, nil
		}
		if b[end] != '\r' || b[end+1] != '\n' {
			return args, 0, errNotCommand
		}
		args = append(args, b[at:end])
		at = end + 2
	}
	return args, at, nil
}

// parseLength reads a line such as "*3" and returns the number and how much it took, 0 if the line is
// not whole yet. A negative number of arguments is none.
func parseLength(b []byte, kind byte, limit int) (num, used int, _ error) {
	if len(b) == 0 {
		return 0, 0, nil
	}
	if b[0] != kind {
		return 0, 0, errNotCommand
	}
	end := bytes.IndexByte(b[:min(len(b), 32)], '\n')
	if end < 0 {
		if len(b) >= 32 {
			return 0, 0, errNotCommand
		}
		return 0, 0, nil
	}
	digits := b[1:end]
	if len(digits) < 2 || digits[len(digits)-1] != '\r' {
		return 0, 0, errNotCommand
	}
	digits = digits[:len(digits)-1]
	if kind == '*' && string(digits) == "-1" {
		return 0, end + 1, nil
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, 0, errNotCommand
		}
		if num = num*10 + int(c-'0'); num > limit {
			return 0, 0, errNotCommand
		}
	}
	return num, end + 1, nil
}
