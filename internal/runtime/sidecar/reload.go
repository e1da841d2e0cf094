package sidecar

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/redisopt/redisopt/internal/runtime/config"
)

// settle is how long a file must have been left alone before it is read: editors write in steps.
const settle = 200 * time.Millisecond

// reload reads the configuration again at every signal and every change of its file, until ctx ends.
func (s *Sidecar) reload(ctx context.Context, w *world) error {
	events, stop := s.watch()
	defer stop()
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.opts.Reload:
			s.reconfigure(w)
		case <-events:
			due = time.After(settle)
		case <-due:
			due = nil
			s.reconfigure(w)
		}
	}
}

// watch follows the directory of the configuration file, because editors and orchestrators replace the
// file, or a link on the way to it, instead of writing into it.
func (s *Sidecar) watch() (events <-chan struct{}, stop func()) {
	none := func() {}
	if s.opts.File == "" || s.opts.Load == nil {
		return nil, none
	}
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		err = watcher.Add(filepath.Dir(s.opts.File))
	}
	if err != nil {
		s.log.Warn(eventInvalid, "cause", "the file is not watched, so only SIGHUP reads it again: "+err.Error())
		return nil, none
	}
	file := filepath.Base(s.opts.File)
	out := make(chan struct{}, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case e, open := <-watcher.Events:
				if !open {
					return
				}
				// Kubernetes swaps the link ..data, through which the file is reached.
				if name := filepath.Base(e.Name); e.Has(fsnotify.Chmod) || name != file && name != "..data" {
					continue
				}
				select {
				case out <- struct{}{}:
				default:
				}
			case _, open := <-watcher.Errors:
				if !open {
					return
				}
			}
		}
	}()
	return out, func() {
		_ = watcher.Close()
		<-ended
	}
}

// reconfigure takes what can be taken of the new configuration, names what changed and what needs a
// restart, and keeps the old one where the new one is wrong.
func (s *Sidecar) reconfigure(w *world) {
	if s.opts.Load == nil {
		return
	}
	next, err := s.opts.Load()
	if err != nil {
		problems := []string{}
		for _, p := range config.Problems(err) {
			problems = append(problems, p.Error())
		}
		if len(problems) == 0 {
			problems = append(problems, err.Error())
		}
		s.log.Error(eventInvalid, "problems", problems, "in_force", "the configuration before")
		return
	}
	if w.store != nil {
		next = withOwnHashKey(next, w.conf.Limits.HashKey)
	}
	changes := w.conf.Diff(next)
	certificates := w.reloadCertificate(next)
	if certificates != nil {
		s.log.Error(eventInvalid, "problems", []string{certificates.Error()}, "in_force", "the certificate before")
	}
	if len(changes) == 0 {
		s.log.Info(eventUnchanged)
		return
	}
	before := w.conf
	if err := w.apply(next); err != nil {
		s.log.Error(eventInvalid, "problems", strings.Split(err.Error(), "\n"), "in_force", "the configuration before")
		return
	}
	s.opts.Level.Set(LevelOf(next.Serve.LogLevel))
	var changed, restart []string
	for _, c := range changes {
		line := c.Key + ": " + shown(c.Old) + " -> " + shown(c.New)
		changed = append(changed, line)
		if door := admits(c.Key); door && unguarded(before.Serve) != unguarded(next.Serve) || !door && !live(c.Key) {
			restart = append(restart, line)
		}
	}
	s.log.Info(eventReloaded, "changed", changed)
	if len(restart) > 0 {
		s.log.Warn(eventRestart, "keys", restart)
	}
	for _, warning := range next.Warnings() {
		s.log.Warn(eventWarning, "cause", warning.Error())
	}
}

func shown(value string) string {
	if value == "" {
		return "(not set)"
	}
	return value
}

// admits is whether key is about who may ask for what.
func admits(key string) bool {
	return strings.HasPrefix(key, "serve.token") || strings.HasPrefix(key, "serve.gateway.allow") || key == "serve.readonly_token"
}

// live is whether a change of key is in force without a restart.
func live(key string) bool {
	return strings.HasPrefix(key, "limits.rules.") || strings.HasPrefix(key, "queues.schedules") ||
		slices.Contains([]string{"serve.log_level", "serve.tls_cert", "serve.tls_key"}, key)
}
