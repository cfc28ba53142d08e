package job_test

import (
	"encoding/json"
	"testing"
	"time"

	"crier/job"
)

func TestEvent(t *testing.T) {
	id, err := job.ParseID("job_00000000000000000000000009")
	if err != nil {
		t.Fatal(err)
	}
	n := uint32(12)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, c := range []struct {
		e                 job.Event
		id, subject, text string
	}{
		{job.Event{Job: id, Version: 3, State: "sent", At: at}, "job_00000000000000000000000009/3", "evt.job.job_00000000000000000000000009",
			`{"job":"job_00000000000000000000000009","version":3,"state":"sent","at":"2026-01-02T03:04:05.000000006Z"}`},
		{job.Event{Job: id, Slice: &n, Version: 1, State: "planned", Reason: "r", At: at}, "job_00000000000000000000000009-12/1", "evt.slice.job_00000000000000000000000009.12",
			`{"job":"job_00000000000000000000000009","slice":12,"version":1,"state":"planned","reason":"r","at":"2026-01-02T03:04:05.000000006Z"}`},
		{job.Event{Job: id, Version: 3, State: "sending", Reason: "its turn", At: at, Alert: job.Overstayed}, "job_00000000000000000000000009/3/overstayed",
			"evt.alert.overstayed.job_00000000000000000000000009.3",
			`{"job":"job_00000000000000000000000009","version":3,"state":"sending","reason":"its turn","at":"2026-01-02T03:04:05.000000006Z","alert":"overstayed"}`},
		{job.Event{Job: id, Version: 7, State: job.ControlRate, Control: true, Rate: new(uint32), At: at}, "job_00000000000000000000000009/control/7",
			"evt.control.job_00000000000000000000000009.7",
			`{"job":"job_00000000000000000000000009","version":7,"state":"rate","at":"2026-01-02T03:04:05.000000006Z","control":true,"rate":0}`},
		{job.Event{Set: &job.SetChange{Kind: "followers", Name: "news", Number: 7, Tenant: "acme", Recipients: 9, Changed: 2}, Version: 4, State: job.SetAdded, At: at}, "followers.7/4", "evt.set.followers.7",
			`{"set":{"kind":"followers","name":"news","number":7,"tenant":"acme","recipients":9,"changed":2},"version":4,"state":"added","at":"2026-01-02T03:04:05.000000006Z"}`},
		{job.Event{Set: &job.SetChange{Kind: "suppression", Name: "zero"}, Version: 4, State: job.SetRemoved, At: at}, "suppression.0/4", "evt.set.suppression.0",
			`{"set":{"kind":"suppression","name":"zero","recipients":0,"changed":0},"version":4,"state":"removed","at":"2026-01-02T03:04:05.000000006Z"}`},
		{job.Event{Set: &job.SetChange{Kind: "global-suppression"}, Version: 4, State: job.SetAdded, At: at}, "global-suppression.0/4", "evt.set.global-suppression.0",
			`{"set":{"kind":"global-suppression","recipients":0,"changed":0},"version":4,"state":"added","at":"2026-01-02T03:04:05.000000006Z"}`},
	} {
		text, err := json.Marshal(c.e)
		if err != nil || c.e.ID() != c.id || c.e.Subject() != c.subject || string(text) != c.text || c.e.Validate() != nil {
			t.Errorf("id %s, subject %s, text %s, %v", c.e.ID(), c.e.Subject(), text, err)
		}
	}
	for want, e := range map[string]job.Event{"job": {Job: id}, "control": {Job: id, Control: true}, "slice": {Job: id, Slice: &n}, "set": {Set: &job.SetChange{}}} {
		if e.Kind() != want {
			t.Errorf("%+v is of the kind %s", e, e.Kind())
		}
	}
	set := &job.SetChange{Kind: "segment", Number: 1}
	if err := (job.Event{Set: set, Job: id, Version: 1, State: "added"}).Validate(); job.CodeOf(err) != job.CodeInvalid {
		t.Errorf("an event about a job and a set: %v", err)
	}
	for field, e := range map[string]job.Event{"known alert": {Job: id, Version: 1, State: "sent", Alert: "boom"}, "job of an alert": {Job: id, Slice: &n, Version: 1, State: "sent", Alert: job.Overstayed},
		"version of a set's alert": {Set: &job.SetChange{Kind: "segment"}, Version: 1, State: "added", Alert: job.Overstayed},
		"job of a control":         {Job: id, Slice: &n, Version: 1, State: "pause", Control: true},
		"set":                      {Set: &job.SetChange{Kind: "x"}, Version: 1, State: "added"}, "job": {Version: 1, State: "sent"}, "version": {Job: id, State: "sent"}, "state": {Job: id, Version: 1}} {
		if job.CodeOf(e.Validate()) != job.CodeInvalid {
			t.Errorf("an event without a %s is taken", field)
		}
	}
}
