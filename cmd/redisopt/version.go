package main

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
)

// version is set by the linker in released builds: -ldflags "-X main.version=v1.2.3".
var version string

// versionData is the contract of version/v1.
type versionData struct {
	Version   string `json:"version"`            // "v1.2.3", or "devel"
	Commit    string `json:"commit,omitempty"`   // of the source, if built from a checkout
	Built     string `json:"built,omitempty"`    // time of the commit, RFC 3339 UTC
	Modified  bool   `json:"modified,omitempty"` // the checkout had changes
	GoVersion string `json:"go_version"`         // "go1.26.0"
	OS        string `json:"os"`                 // "linux"
	Arch      string `json:"arch"`               // "amd64"
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program",
		Example: `  redisopt version
  redisopt version -o json`,
		Args: cobra.NoArgs,
		RunE: a.action(func(context.Context, []string) error {
			return a.print(versionDocument(buildVersion()))
		}),
	}
}

func versionDocument(v versionData) report.Document {
	fields := []report.Field{{Name: "version", Value: v.Version}}
	if v.Commit != "" {
		commit := v.Commit
		if v.Modified {
			commit += " (modified)"
		}
		fields = append(fields, report.Field{Name: "commit", Value: commit}, report.Field{Name: "committed", Value: v.Built})
	}
	fields = append(fields,
		report.Field{Name: "go", Value: v.GoVersion},
		report.Field{Name: "platform", Value: v.OS + "/" + v.Arch},
	)
	return report.Document{
		Kind:     "version/v1",
		Data:     v,
		Title:    "redisopt",
		Sections: []report.Section{{Fields: fields}},
	}
}

// buildVersion reads what the compiler and the linker recorded in this binary.
func buildVersion() versionData {
	v := versionData{
		Version:   programVersion(),
		GoVersion: runtime.Version(),
		OS:        runtime.GOOS,
		Arch:      runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Built = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

// programVersion is the version of this program, "devel" when it is not a released build.
func programVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
