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
	} {
		text, err := json.Marshal(c.e)
		if err != nil || c.e.ID() != c.id || c.e.Subject() != c.subject || string(text) != c.text || c.e.Validate() != nil {
			t.Errorf("id %s, subject %s, text %s, %v", c.e.ID(), c.e.Subject(), text, err)
		}
	}
	for field, e := range map[string]job.Event{"job": {Version: 1, State: "sent"}, "version": {Job: id, State: "sent"}, "state": {Job: id, Version: 1},
		"known alert": {Job: id, Version: 1, State: "sent", Alert: "boom"}, "job of an alert": {Job: id, Slice: &n, Version: 1, State: "sent", Alert: job.Overstayed}} {
		if job.CodeOf(e.Validate()) != job.CodeInvalid {
			t.Errorf("an event without a %s is taken", field)
		}
	}
}
