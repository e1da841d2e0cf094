package report

import (
	"fmt"
	"io"
)

// A Stream prints many documents one after another, as --watch does. In JSON each is one object on
// one line; in any other format each is printed as Write would, set apart by an empty line. It is
// used by one goroutine at a time.
type Stream struct {
	w       io.Writer
	format  Format
	opts    WriteOptions
	written int
}

// NewStream returns a Stream that prints to w.
func NewStream(w io.Writer, f Format, opts WriteOptions) *Stream {
	return &Stream{w: w, format: f, opts: opts}
}

// Write prints doc. A document that cannot be rendered prints nothing, and the stream goes on.
func (s *Stream) Write(doc Document) error {
	if s.format != FormatJSON {
		if s.written > 0 {
			if _, err := io.WriteString(s.w, "\n"); err != nil {
				return fmt.Errorf("print %s: %w", doc.Kind, err)
			}
		}
		s.written++
		return Write(s.w, s.format, doc, s.opts)
	}
	line, err := encode(doc, "")
	if err != nil {
		return fmt.Errorf("print %s as %s: %w", doc.Kind, s.format, err)
	}
	if _, err := s.w.Write(line); err != nil {
		return fmt.Errorf("print %s: %w", doc.Kind, err)
	}
	s.written++
	return nil
}
