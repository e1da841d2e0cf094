package source

import (
	"path/filepath"
	"testing"
)

// apps are the sample applications, with the connections that each was seen to hold.
func apps() []app {
	return []app{
		{name: "bull", connections: 33},
		{name: "bull-shared", connections: 13},
		{name: "bullmq-options", connections: 33},
		{name: "bullmq-shared", connections: 12},
		{name: "factory", connections: 33},
		{name: "nestjs", connections: 33},
	}
}

type app struct {
	name        string
	connections float64
}

func (a app) dir() string { return filepath.Join("testdata", "apps", a.name) }

func TestElevenQueuesAreCountedHoweverTheyAreWritten(t *testing.T) {
	for _, a := range apps() {
		t.Run(a.name, func(t *testing.T) {
			r, err := Scan(t.Context(), a.dir(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Processes) != 1 {
				t.Fatalf("%d processes, want 1: %+v", len(r.Processes), r.Processes)
			}
			p := r.Processes[0]
			if !p.Connections.Exact() || p.Connections.Min != a.connections {
				t.Errorf("connections = %+v, want %g", p.Connections, a.connections)
				for _, s := range p.Sites {
					t.Logf("%s %s at %s:%d:%d made %+v connections %+v %q", s.Library, s.Kind, s.File, s.Line, s.Column, s.Made, s.Connections, s.Queues)
				}
			}
			if len(p.Queues) != 11 {
				t.Errorf("%d queues, want 11", len(p.Queues))
			}
			if len(r.Unresolved) != 0 || len(r.Missing) != 0 {
				t.Errorf("unresolved %+v, missing %q, want none", r.Unresolved, r.Missing)
			}
			t.Logf("idle top %+v all %+v", p.Idle.Top, p.Idle.All)
		})
	}
}
