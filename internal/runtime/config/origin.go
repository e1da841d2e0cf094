package config

import "fmt"

// A Kind is a kind of source, from the weakest to the strongest.
type Kind int

// The kinds of source.
const (
	FromDefault Kind = iota
	FromFile         // redisopt.yaml
	FromEnv          // an environment variable, or the file that its _FILE variant names
	FromFlag         // a flag of this run
)

// String is the kind's name in documents.
func (k Kind) String() string {
	switch k {
	case FromDefault:
		return "default"
	case FromFile:
		return "file"
	case FromEnv:
		return "env"
	case FromFlag:
		return "flag"
	default:
		return fmt.Sprintf("Kind(%d)", int(k))
	}
}

// An Origin is where a value came from. The zero value is the default.
type Origin struct {
	Kind Kind

	// Name is the flag without its dashes, or the environment variable.
	Name string

	// Path is the configuration file, or the file that a _FILE variable names.
	Path string

	// Line and Column are the place in the configuration file, from 1.
	Line, Column int
}

// String is how an origin is shown: "flag --redis-url", "env REDIS_URL", "env REDIS_URL_FILE
// (/run/secrets/redis)", "redisopt.yaml:12", "default".
func (o Origin) String() string {
	switch o.Kind {
	case FromFlag:
		return "flag --" + o.Name
	case FromEnv:
		if o.Path != "" {
			return fmt.Sprintf("env %s (%s)", o.Name, o.Path)
		}
		return "env " + o.Name
	case FromFile:
		return fmt.Sprintf("%s:%d", o.Path, o.Line)
	case FromDefault:
		return "default"
	default:
		return o.Kind.String()
	}
}

// place is where a problem is, as the start of a message; empty when nothing was set.
func (o Origin) place() string {
	switch o.Kind {
	case FromFlag:
		return "--" + o.Name
	case FromEnv:
		return o.Name
	case FromFile:
		if o.Line == 0 {
			return o.Path
		}
		return fmt.Sprintf("%s:%d:%d", o.Path, o.Line, o.Column)
	case FromDefault:
		return ""
	default:
		return ""
	}
}
