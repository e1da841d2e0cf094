package upstream

import (
	"reflect"
	"testing"
)

func TestCostsAreAddedAndTakenAwayFieldByField(t *testing.T) {
	var a, b Cost
	for i := range reflect.TypeFor[Cost]().NumField() { // one that is added later is not forgotten
		reflect.ValueOf(&a).Elem().Field(i).SetInt(int64(10 * (i + 1)))
		reflect.ValueOf(&b).Elem().Field(i).SetInt(int64(i + 1))
	}
	sum, rest := reflect.ValueOf(a.Plus(b)), reflect.ValueOf(a.Minus(b))
	for i := range sum.NumField() {
		name := sum.Type().Field(i).Name
		if got, want := sum.Field(i).Int(), int64(11*(i+1)); got != want {
			t.Errorf("Plus: %s = %d, want %d", name, got, want)
		}
		if got, want := rest.Field(i).Int(), int64(9*(i+1)); got != want {
			t.Errorf("Minus: %s = %d, want %d", name, got, want)
		}
	}
}
