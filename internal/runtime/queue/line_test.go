package queue

import (
	"testing"
	"time"
)

// A band that is asked right before a resume answers that it has no job, and may be heard right after it.
func TestAnAnswerFromBeforeAResumeDoesNotEndTheSlowStart(t *testing.T) {
	l, err := newLine(Queue{Name: "q"}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	asked := time.Now().Add(-time.Millisecond)
	new(Engine).stage(l)
	for _, band := range l.bands {
		l.seenEmpty(band, asked)
	}
	if l.stage == nil {
		t.Error("bands that were asked while they were paused are believed to be empty")
	}
	for _, band := range l.bands {
		l.seenEmpty(band, time.Now())
	}
	if l.stage != nil {
		t.Error("it goes on slowly when all bands are empty")
	}
}
