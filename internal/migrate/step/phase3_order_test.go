package step

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQueuesAreMovedSafestFirst(t *testing.T) {
	names := []string{"google-contacts-sync", "zebra", "calendar-sync", "ant", "webhook-health-check", "token-refresh", "mail"}
	tests := []struct {
		name   string
		places map[string]int
		first  []string
		want   string
	}{
		{"as the design has it, and what it does not know last and by name", nil, nil, "webhook-health-check token-refresh calendar-sync google-contacts-sync ant mail zebra"},
		{"the configuration goes before the design", map[string]int{"zebra": 1, "mail": 2}, nil, "zebra mail webhook-health-check token-refresh calendar-sync google-contacts-sync ant"},
		{"what was named goes before both", map[string]int{"zebra": 1}, []string{"ant", "calendar-sync"}, "ant calendar-sync zebra webhook-health-check token-refresh google-contacts-sync mail"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := OrderQueues(names, tt.places, tt.first)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("OrderQueues (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := OrderQueues(names, nil, []string{"mial"}); err == nil || !strings.Contains(err.Error(), `no queue "mial"`) {
		t.Errorf("an unknown name: got %v", err)
	}
	if _, err := OrderQueues(names, nil, []string{"mail", "mail"}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a name given twice: got %v", err)
	}
}
