package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Each setting is either open or has a mask, and each that is listed is one.
func TestEverySettingIsOpenOrSecret(t *testing.T) {
	listed := slices.Clone(open)
	for key := range secret {
		listed = append(listed, key)
	}
	seen := map[string]int{}
	for _, key := range listed {
		seen[key]++
	}
	var keys []string
	leaves("", reflect.ValueOf(Default()), func(key string, _ reflect.Value) {
		keys = append(keys, key)
		if seen[key] != 1 {
			t.Errorf("%s is in the lists of open and secret settings %d times: it belongs into one of them", key, seen[key])
		}
		delete(seen, key)
	})
	for key := range seen {
		t.Errorf("%s is listed and is no setting", key)
	}
	// The walk finds what can be set.
	for _, s := range settings {
		if !slices.Contains(keys, s.key) {
			t.Errorf("%s can be set, and is not found in Server", s.key)
		}
	}
	if len(keys) != len(settings) {
		t.Errorf("%d settings are found, %d can be set", len(keys), len(settings))
	}
}

// Nothing that a secret setting holds besides names and addresses is shown, and all of it
// is told to whoever looks for it.
func TestSecretsAreMasked(t *testing.T) {
	const planted = "s3cr3t-Word"
	for _, c := range []struct{ key, value, shown string }{
		{"sql.dsn", "crier:s3cr3t-Word@tcp(db:3306)/crier", "crier:***@tcp(db:3306)/crier"},
		{"sql.dsn", "crier:s3cr3t-Word@x:/y?z@tcp(db:3306)/crier?tls=true", "crier:***@tcp(db:3306)/crier?***"},
		{"sql.dsn", "crier:x@tcp(db:3306)/crier?password=s3cr3t-Word", "crier:***@tcp(db:3306)/crier?***"},
		{"sql.dsn", "mysql://crier:s3cr3t-Word@db/crier", "mysql:***@db/crier"},
		{"sql.dsn", "s3cr3t-Word", "***"},
		{"sql.dsn", "tcp(db:3306)/crier", "***"},
		{"gateway_url", "wss://gw1.example/v1/connect", "wss://gw1.example/v1/connect"},
		{"gateway_url", "wss://gw1.example/v1/connect?pass=s3cr3t-Word", "wss://gw1.example/v1/connect?***"},
		{"gateway_url", "wss://me:s3cr3t-Word@gw1.example/v1/connect", "wss://***@gw1.example/v1/connect"},
		{"gateway_url", "wss://%s3cr3t-Word", "***"},
		{"nats.servers", "nats://s3cr3t-Word@a:4222", "nats://***@a:4222"},
		{"nats.servers", "nats://a:4222#s3cr3t-Word", "nats://a:4222?***"},
		{"nats.servers", "nats:s3cr3t-Word", "***"},
		{"nats.creds", "/etc/crier/nats.creds", "/etc/crier/nats.creds"},
		{"nats.creds", "crier:s3cr3t-Word", "***"},
		{"nats.token", "s3cr3t-Word", "***"},
		{"nats.system", "sys:s3cr3t-Word", "***"},
	} {
		s := Default()
		leaves("", reflect.ValueOf(&s).Elem(), func(key string, v reflect.Value) {
			switch {
			case key != c.key:
			case v.Kind() == reflect.Slice:
				v.Set(reflect.ValueOf([]string{"nats://b:4222", c.value}))
			default:
				v.SetString(c.value)
			}
		})
		all, err := json.Marshal(s.Show())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(all), planted) {
			t.Errorf("%s = %s is shown: %s", c.key, c.value, all)
		}
		found := false
		for _, one := range s.Show() {
			if one.Setting != c.key {
				continue
			}
			found = true
			want := c.shown
			if list, ok := one.Value.([]string); ok {
				want, one.Value = "nats://b:4222 "+want, strings.Join(list, " ")
			}
			if one.Value != want || one.Masked != (c.shown != c.value) || one.Default {
				t.Errorf("%s = %s is shown as %+v, want %s", c.key, c.value, one, want)
			}
		}
		if !found {
			t.Errorf("%s is not shown", c.key)
		}
		if hidden := strings.Contains(c.value, planted); hidden && !slices.ContainsFunc(s.Secrets(), func(x string) bool { return strings.Contains(x, planted) }) {
			t.Errorf("%s = %s: %q are told as its secrets", c.key, c.value, s.Secrets())
		}
		variable := variable(setting{key: c.key}) + "=" + c.value
		if got := SecretsOf([]string{"CRIER_NAME=x", variable}); strings.Contains(c.value, planted) != strings.Contains(fmt.Sprint(got), planted) {
			t.Errorf("%s: %q are told as its secrets", variable, got)
		}
	}
}

// What stands elsewhere, too, is hidden where it is set and not looked for elsewhere.
func TestWordsAreNoSecrets(t *testing.T) {
	_, secrets := maskURL("wss://crier:s3cr3t-Word@gw.example/v1?compress=true&n=12&key=s3cr3t-Key")
	for _, word := range []string{"crier", "true", "12"} {
		if slices.Contains(secrets, word) {
			t.Errorf("%q is among the secrets", word)
		}
	}
	for _, word := range []string{"s3cr3t-Word", "s3cr3t-Key"} {
		if !slices.Contains(secrets, word) {
			t.Errorf("%q is not among the secrets %q", word, secrets)
		}
	}
}

// Each secret setting was tried above with a secret in it; the others keep their values.
func TestWhatIsOpenIsShown(t *testing.T) {
	s := Default()
	n := 0
	leaves("", reflect.ValueOf(&s).Elem(), func(key string, v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			v.SetString("changed")
		case reflect.Slice:
			v.Set(reflect.ValueOf([]string{"changed"}))
		case reflect.Bool:
			v.SetBool(!v.Bool())
		default:
			v.SetInt(v.Int() + 3)
		}
	})
	for _, one := range s.Show() {
		n++
		if one.Default {
			t.Errorf("%s was changed and is called the default", one.Setting)
		}
		if one.Masked == slices.Contains(open, one.Setting) {
			t.Errorf("%s is masked: %v", one.Setting, one.Masked)
		}
	}
	if n != len(settings) {
		t.Errorf("%d settings are shown of %d", n, len(settings))
	}
	for _, one := range Default().Show() {
		if !one.Default || one.Masked {
			t.Errorf("%s has its default and is shown as %+v", one.Setting, one)
		}
	}
}

// A setting that was forgotten in the lists is hidden, whatever it is.
func TestWhatIsNotListedIsHidden(t *testing.T) {
	hide := maskOf("sql.password")
	if hide == nil {
		t.Fatal("it is open")
	}
	for _, v := range []any{"abc", []string{"abc"}, 3, true} {
		if shown, changed, _ := masked(reflect.ValueOf(v), hide); !changed || strings.Contains(fmt.Sprint(shown), fmt.Sprint(v)) {
			t.Errorf("%v is shown as %v", v, shown)
		}
	}
}
