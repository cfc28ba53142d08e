package config

import (
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
)

// SettingsFile is the file in the data directory in which a server that has become ready
// leaves what it runs with, as Running.
const SettingsFile = "settings.json"

// Hidden stands for what is secret.
const Hidden = "***"

// Shown is a setting as whoever may not know its secret is shown it.
type Shown struct {
	Setting string `json:"setting"`
	Value   any    `json:"value"`
	Default bool   `json:"default,omitzero"` // nobody set it to anything else
	Masked  bool   `json:"masked,omitzero"`  // a part of it, or all of it, is Hidden
}

// Running is what a server that became ready leaves in its data directory, for whoever
// looks for what is wrong with it: also after it has died, and whatever the file and the
// variables say by then. It has no secret in it.
type Running struct {
	ReadyAt  time.Time `json:"ready_at"`
	PID      int       `json:"pid"`
	Version  string    `json:"version"`
	Log      string    `json:"log,omitzero"` // file that its log goes to; empty if it goes to none
	Settings []Shown   `json:"settings"`
}

// Text gives the value of a setting that is text; empty if there is none.
func (r Running) Text(key string) string {
	for _, s := range r.Settings {
		if text, ok := s.Value.(string); ok && s.Setting == key {
			return text
		}
	}
	return ""
}

// mask gives what of a value may be shown, and what in it is secret.
type mask func(value string) (shown string, secrets []string)

// open are the settings that have no secret in them: numbers, names, addresses, and where
// files are, also those with keys.
var open = []string{
	"data", "name", "blobs", "keys", "listen", "roles", "ready_file", "cpu_profile", "log.level", "log.format",
	"cluster.id", "cluster.listen", "cluster.advertise", "cluster.seeds", "cluster.profile", "cluster.adopt",
	"cluster.tls.cert", "cluster.tls.key", "cluster.tls.ca", "coordination.zookeeper", "coordination.root",
	"nats.embedded", "nats.listen", "nats.name", "nats.cluster_listen", "nats.routes", "nats.sync_attested",
	"nats.tls_ca", "nats.tls_cert", "nats.tls_key", "nats.replicas",
	"limits.ledger", "limits.fold", "limits.disk_warn", "limits.disk_crit", "limits.lanes", "limits.drain",
	"frequency.cap", "frequency.account_cap", "frequency.zone", "frequency.exempt", "frequency.slots",
	"parking.cap", "webhooks.allow",
}

// secret are the settings that have a secret in them, or may have one by mistake. One that
// is in neither list is hidden, and a test fails.
var secret = map[string]mask{
	"sql.dsn":      maskDSN,
	"gateway_url":  maskURL,
	"nats.servers": maskURL,
	"nats.creds":   maskPath,
	"nats.token":   maskPath,
	"nats.system":  maskPath,
}

// maskDSN shows user and address of a database. The driver takes all before the last @ for
// user and password; what has no @ may be anything.
func maskDSN(v string) (string, []string) {
	if v == "" {
		return "", nil
	}
	at := strings.LastIndexByte(v, '@')
	if at < 0 {
		return Hidden, []string{v}
	}
	user, password, ok := strings.Cut(v[:at], ":")
	if ok {
		user += ":" + Hidden
	}
	where, _, more := strings.Cut(v[at+1:], "?")
	if more {
		where += "?" + Hidden
	}
	return user + "@" + where, []string{v, password}
}

// maskURL shows a URL without who asks and without the values behind its question mark.
func maskURL(v string) (string, []string) {
	if v == "" {
		return "", nil
	}
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || u.Opaque != "" {
		return Hidden, []string{v}
	}
	var secrets []string
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	head := shown.String()
	if u.User != nil {
		word, ok := u.User.Password()
		if !ok {
			word = u.User.Username() // a token
		}
		secrets = append(secrets, v, word)
		head = strings.Replace(head, "://", "://"+Hidden+"@", 1)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		secrets = append(secrets, v, u.RawQuery, u.Fragment)
		for _, values := range u.Query() {
			secrets = append(secrets, slices.DeleteFunc(values, isWord)...)
		}
		head += "?" + Hidden
	}
	return head, secrets
}

// isWord reports whether a value is so short that it is more likely a word or a number, which
// stands elsewhere, too.
func isWord(value string) bool { return len(value) < 8 }

// maskPath shows where a file with a secret is. What is no absolute path may be the secret
// itself.
func maskPath(v string) (string, []string) {
	if v == "" || filepath.IsAbs(v) {
		return v, nil
	}
	_, password, _ := strings.Cut(v, ":")
	return Hidden, []string{v, password}
}

// Show gives all settings, in the order in which Server has them, without their secrets.
func (s Server) Show() (all []Shown) {
	standard := map[string]any{}
	leaves("", reflect.ValueOf(Default()), func(key string, v reflect.Value) { standard[key] = v.Interface() })
	leaves("", reflect.ValueOf(s), func(key string, v reflect.Value) {
		one := Shown{Setting: key, Value: v.Interface(), Default: reflect.DeepEqual(v.Interface(), standard[key])}
		if hide := maskOf(key); hide != nil {
			one.Value, one.Masked, _ = masked(v, hide)
		}
		all = append(all, one)
	})
	return all
}

// Secrets gives what is secret in the settings, so that it can be looked for elsewhere. The
// empty text may be among it.
func (s Server) Secrets() (all []string) {
	leaves("", reflect.ValueOf(s), func(key string, v reflect.Value) {
		if hide := maskOf(key); hide != nil {
			_, _, secrets := masked(v, hide)
			all = append(all, secrets...)
		}
	})
	return all
}

// SecretsOf gives what is secret in the variables of an environment, which need not make a
// configuration.
func SecretsOf(environ []string) (all []string) {
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if hide := maskOf(keyOfVariable(name)); keyOfVariable(name) != "" && hide != nil {
			_, secrets := hide(value)
			all = append(all, secrets...)
		}
	}
	return all
}

// maskOf gives the mask of a setting; nil: it is open.
func maskOf(key string) mask {
	if hide, ok := secret[key]; ok {
		return hide
	}
	if slices.Contains(open, key) {
		return nil
	}
	return func(v string) (string, []string) { return Hidden, []string{v} }
}

// masked applies a mask to a text, or to each of a list; what else there is has none that
// would do, and is hidden.
func masked(v reflect.Value, hide mask) (shown any, changed bool, secrets []string) {
	switch value := v.Interface().(type) {
	case string:
		text, secrets := hide(value)
		return text, text != value, secrets
	case []string:
		texts := make([]string, len(value))
		for i, x := range value {
			text, more := hide(x)
			texts[i], secrets = text, append(secrets, more...)
		}
		return texts, !slices.Equal(texts, value), secrets
	}
	return Hidden, true, nil
}

// leaves calls fn for each setting of a configuration, by its key.
func leaves(key string, v reflect.Value, fn func(key string, v reflect.Value)) {
	if v.Kind() != reflect.Struct {
		fn(key, v)
		return
	}
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("koanf")
		if key != "" {
			name = key + "." + name
		}
		leaves(name, v.Field(i), fn)
	}
}
