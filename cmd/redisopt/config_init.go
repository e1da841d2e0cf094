package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/config"
)

// initData is the contract of config.init/v1.
type initData struct {
	File      string `json:"file"`
	Profile   string `json:"profile"` // empty: the small file with the defaults
	SizeBytes int    `json:"size_bytes"`
	Replaces  bool   `json:"replaces"` // a file of this name was there
	Written   bool   `json:"written"`  // false under --dry-run
}

func (a *app) configInitCommand() *cobra.Command {
	var profile string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a commented redisopt.yaml, never over another one without being told",
		Example: `  redisopt config init
  redisopt config init --profile catchup --config redisopt.staging.yaml`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.configInit(ctx, profile) }),
	}
	cmd.Flags().StringVar(&profile, "profile", "", "write the file of this kind of application: "+strings.Join(config.Profiles(), ", "))
	return cmd
}

func (a *app) configInit(ctx context.Context, profile string) error {
	text, err := config.Init(profile)
	if err != nil {
		return &usageError{err}
	}
	file := a.configFile()
	data := initData{File: file, Profile: profile, SizeBytes: len(text)}
	switch _, err := os.Stat(file); {
	case err == nil:
		data.Replaces = true
	case !errors.Is(err, fs.ErrNotExist):
		return &usageError{fmt.Errorf("write the configuration: %w", err)}
	}
	if a.flags.dryRun {
		return a.print(initDocument(data))
	}
	if data.Replaces {
		if err := a.confirm(ctx, initDocument(data), "Replace "+file+"?"); err != nil {
			return err
		}
	}
	if err := writeFile(file, text, data.Replaces); err != nil {
		return &usageError{fmt.Errorf("write the configuration: %w", err)}
	}
	data.Written = true
	if err := a.print(initDocument(data)); err != nil {
		return err
	}
	a.note("next: redisopt config check")
	return nil
}

// writeFile writes text to file. A file that is replaced is the old one or the new one at any
// instant; one that is not must not be there.
func writeFile(file string, text []byte, replace bool) error {
	if !replace {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(text)
		return errors.Join(err, f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func initDocument(d initData) report.Document {
	what := "the defaults, commented"
	if d.Profile != "" {
		what = "profile " + d.Profile
	}
	title := "Configuration file"
	switch {
	case d.Written && d.Replaces:
		title += " replaced"
	case d.Written:
		title += " written"
	case d.Replaces:
		title += " would be replaced"
	default:
		title += " would be written"
	}
	return report.Document{
		Kind: "config.init/v1", Data: d, Title: title,
		Sections: []report.Section{{Fields: []report.Field{
			{Name: "file", Value: d.File},
			{Name: "content", Value: what},
			{Name: "size", Value: plural(int64(d.SizeBytes), "byte")},
		}}},
	}
}
