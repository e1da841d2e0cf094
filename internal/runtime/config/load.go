package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

// DefaultFile is the configuration file that is read, if it exists, when none is named.
const DefaultFile = "redisopt.yaml"

// Sources are where the configuration comes from. The zero value reads the environment of the
// process and redisopt.yaml in the working directory, if it exists.
type Sources struct {
	// File is the configuration file, which must then exist. Default DefaultFile, which need not.
	File string

	// Env looks up an environment variable. Default os.LookupEnv. A variable that is set to nothing
	// counts as not set.
	Env func(name string) (value string, ok bool)

	// Flags are the flags that were given, by name without dashes: redis-url, timeout, state-dir.
	Flags map[string]string

	// ReadFile reads the configuration file and the files that _FILE variables name. Default
	// os.ReadFile.
	ReadFile func(name string) ([]byte, error)

	// Need is what the configuration must be enough for; see Require. The zero value needs nothing.
	Need Need
}

// Load reads flags, environment, file and defaults, in this order of precedence.
//
// The error joins every problem, each of type *Problem; Problems lists them. The configuration is
// never nil: next to an error it is what could be understood, to be shown and not to be used.
func Load(s Sources) (*Config, error) {
	if s.Env == nil {
		s.Env = os.LookupEnv
	}
	if s.ReadFile == nil {
		s.ReadFile = os.ReadFile
	}
	c := Default()
	l := loader{Sources: s, config: c}
	l.file()
	l.environment()
	l.flags()
	l.secretFiles()
	c.fillElements()
	l.problems = append(l.problems, c.validate(l.problems)...)
	l.problems = append(l.problems, c.missing(s.Need)...)
	return c, joined(l.problems)
}

// Warnings are what is allowed but probably not meant, in a stable order.
func (c *Config) Warnings() []*Problem { return slices.Clone(c.warnings) }

type loader struct {
	Sources
	config   *Config
	problems []*Problem
}

func (l *loader) bad(key string, at Origin, format string, args ...any) {
	l.problems = append(l.problems, &Problem{Key: key, Origin: at, Message: fmt.Sprintf(format, args...)})
}

func (l *loader) file() {
	name := l.File
	if name == "" {
		name = DefaultFile
	}
	text, err := l.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && l.File == "":
		return
	case errors.Is(err, fs.ErrNotExist):
		l.bad("", Origin{Kind: FromFile, Path: name}, "no such file; write one with: redisopt config init")
		return
	case err != nil:
		l.bad("", Origin{Kind: FromFile, Path: name}, "cannot be read: %s", reason(err))
		return
	}
	r := fileReader{path: name, origins: l.config.origins}
	r.read(l.config, text)
	l.problems = append(l.problems, r.problems...)
}

// reason is err without the path that os puts before it: the place of the problem names it already.
func reason(err error) string {
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		return pathError.Err.Error()
	}
	return err.Error()
}

func (l *loader) environment() {
	fallback := l.useFallback()
	for _, f := range leaves(l.config) {
		primary, second, _ := strings.Cut(f.tag.Get("env"), ",")
		if primary == "" {
			continue
		}
		name := primary
		if fallback && second != "" {
			name = second
		}
		text, at, ok := l.variable(f.key, name)
		if !ok {
			continue
		}
		if err := set(f.value, text, f.tag); err != nil {
			l.bad(f.key, at, "%s", flat(err))
		}
		l.config.origins[f.key] = at
	}
}

// useFallback is whether the fallback names are read. They are a pair, URL and token, and only count
// together: the token of one database must not go to the address of another.
func (l *loader) useFallback() bool {
	for _, f := range leaves(l.config) {
		if primary, second, ok := strings.Cut(f.tag.Get("env"), ","); ok && second != "" && (l.has(primary) || l.has(primary+"_FILE")) {
			return false
		}
	}
	return true
}

func (l *loader) has(name string) bool {
	value, ok := l.Env(name)
	return ok && value != ""
}

// variable is the value of the environment variable name, or of the file that name_FILE names.
func (l *loader) variable(key, name string) (string, Origin, bool) {
	value, _ := l.Env(name)
	path, _ := l.Env(name + "_FILE")
	at := Origin{Kind: FromEnv, Name: name}
	if path == "" {
		return value, at, value != ""
	}
	inFile := Origin{Kind: FromEnv, Name: name + "_FILE", Path: path}
	if value != "" {
		l.bad(key, inFile, "%s is set too; unset one of the two", name)
		return value, at, true
	}
	value, ok := l.secretFile(key, path, inFile)
	return value, inFile, ok
}

// secretFile is the one value in the file at path, without the line break at its end.
func (l *loader) secretFile(key, path string, at Origin) (string, bool) {
	text, err := l.ReadFile(path)
	if err != nil {
		l.bad(key, at, "%s cannot be read: %s", path, reason(err))
		return "", false
	}
	if len(text) > maxFileBytes {
		l.bad(key, at, "%s is %d bytes long, which is no single value", path, len(text))
		return "", false
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if value == "" {
		l.bad(key, at, "%s is empty", path)
		return "", false
	}
	return value, true
}

// secretFiles reads the secrets of what cannot have an environment variable of its own.
func (l *loader) secretFiles() {
	for i := range l.config.Serve.Tokens {
		t, key := &l.config.Serve.Tokens[i], fmt.Sprintf("serve.tokens[%d].token_file", i)
		if t.TokenFile == "" {
			continue
		}
		at := l.config.originNear(key)
		if t.Token != "" {
			l.bad(key, at, "token is set too; leave one of the two out")
			continue
		}
		if value, ok := l.secretFile(key, t.TokenFile, at); ok {
			t.Token = Secret(value)
			l.config.origins[fmt.Sprintf("serve.tokens[%d].token", i)] = Origin{Kind: FromEnv, Name: "token_file", Path: t.TokenFile}
		}
	}
}

func (l *loader) flags() {
	byFlag := map[string]leaf{}
	for _, f := range leaves(l.config) {
		if name := f.tag.Get("flag"); name != "" {
			byFlag[name] = f
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.Flags)) {
		at := Origin{Kind: FromFlag, Name: name}
		f, ok := byFlag[name]
		if !ok {
			l.bad("", at, "this flag sets no configuration value%s", meant(suggest(name, slices.Sorted(maps.Keys(byFlag)))))
			continue
		}
		text := l.Flags[name]
		if f.value.Type() == urlType {
			if err := CheckURLFlag(text); err != nil {
				l.bad(f.key, at, "%s", err)
				continue
			}
			l.config.urlReplaced = f.value.String() != ""
		}
		if err := set(f.value, text, f.tag); err != nil {
			l.bad(f.key, at, "%s", flat(err))
		}
		l.config.origins[f.key] = at
	}
}

// CheckURLFlag refuses a URL with a password on the command line, where every user of the machine can
// read it in the process list, and where shells keep it in their history. The error does not hold the
// URL.
func CheckURLFlag(text string) error {
	if URL(text).hasPassword() {
		return errors.New("a password on the command line can be read in the process list and the shell's history; set REDIS_URL in the environment, or REDIS_URL_FILE to a file that holds the URL")
	}
	return nil
}
