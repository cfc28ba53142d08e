package launch

import (
	"reflect"
	"slices"
	"testing"

	"crier/internal/config"
)

// leaves calls fn for each setting in a configuration, by its name.
func leaves(name string, v reflect.Value, fn func(name string, v reflect.Value)) {
	if v.Kind() != reflect.Struct {
		fn(name, v)
		return
	}
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("koanf")
		if name != "" {
			key = name + "." + key
		}
		leaves(key, v.Field(i), fn)
	}
}

// change gives a setting another value than it has.
func change(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 3)
	case reflect.Uint64:
		v.SetUint(v.Uint() + 3)
	case reflect.Slice:
		v.Set(reflect.ValueOf(append(slices.Clone(v.Interface().([]string)), "x")))
	default:
		t.Fatalf("a setting of type %s", v.Type())
	}
}

// Each setting has its effect: another value of it makes another server.
func TestNoSettingIsForgotten(t *testing.T) {
	// The logger is given; and Validate holds that what is not embedded has nats.servers.
	elsewhere := []string{"log.level", "log.format", "nats.embedded"}
	was, err := settings(config.Default(), Process{})
	if err != nil {
		t.Fatal(err)
	}
	cfg, n := config.Default(), 0
	leaves("", reflect.ValueOf(&cfg).Elem(), func(name string, v reflect.Value) {
		n++
		before := reflect.New(v.Type()).Elem()
		before.Set(v)
		change(t, v)
		is, err := settings(cfg, Process{}) // an error is an effect, too
		if same := err == nil && reflect.DeepEqual(is, was); same != slices.Contains(elsewhere, name) {
			t.Errorf("%s = %v makes another server: %v", name, v, !same)
		}
		v.Set(before)
	})
	if n < 30 {
		t.Errorf("%d settings are too few to mean anything", n)
	}
}
