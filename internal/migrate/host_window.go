package migrate

import (
	"context"
	"fmt"
	"slices"
)

// keepWindows takes the windows that the journal keeps of the run in s where the host was given none, and keeps those
// that it was given: with the run that begins, or in an entry of their own where one is under way. A run that follows
// one that was rolled back or completed begins without. A window that cannot be read is an error, since nobody
// knows when it is closed.
func (h *host) keepWindows(ctx context.Context, s State) error {
	under := s.Stage == Forward || s.Stage == Complete
	if h.opts.Back || !under && s.Stage != NotStarted && s.Stage != RolledBack && s.Stage != Finished {
		return nil // it only goes back, or only completes
	}
	if len(h.opts.Windows) == 0 && !h.opts.AnyTime {
		if !under {
			return nil
		}
		windows, err := parseWindows(s.Windows)
		h.opts.Windows, h.engine.Windows = windows, s.Windows
		return err
	}
	texts := make([]string, len(h.opts.Windows))
	for i, w := range h.opts.Windows {
		texts[i] = w.String()
	}
	h.engine.Windows = texts
	if !under || slices.Equal(texts, s.Windows) {
		return nil
	}
	return h.engine.Keep(ctx, texts)
}

// parseWindows reads windows as a journal keeps them.
func parseWindows(texts []string) ([]Window, error) {
	out := make([]Window, 0, len(texts))
	for _, text := range texts {
		w, err := ParseWindow(text)
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		out = append(out, w)
	}
	return out, nil
}
