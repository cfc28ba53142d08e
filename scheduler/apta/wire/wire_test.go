package wire

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"crier/scheduler/apta/link"
)

func samples() []*Message {
	from := Identity{ID: "a", Incarnation: 3, Nonce: 1<<64 - 1, Home: 9}
	record := link.Record{Header: link.Header{Key: link.Key{Kind: link.Membership, ID: "b"}, Version: link.Version{Incarnation: 1, Seq: 1<<63 + 1, Nonce: 2}},
		Age: 5, Member: &link.Member{State: link.Working, Weights: link.Weights{1, 2, 3}, Addr: "x:1", Links: []string{"a", "c"}, ViewHash: 1<<64 - 3, ActiveFrom: 7}}
	return []*Message{
		{From: from, Hello: &Hello{Cluster: "c", Protocol: Protocol, Wall: 12, Addr: "x:1", Heard: []Heard{{ID: "b", Nonce: 4}}, State: link.Online, Digest: 8, StoreAge: -1}},
		{From: from, Refuse: &Refuse{Code: RefusedClock, Nonce: 4, Text: "late"}},
		{From: from, Bye: true},
		{From: from, Describe: &Describe{Headers: []link.Header{record.Header}, Ask: true}},
		{From: from, Request: []link.Key{record.Key}},
		{From: from, Update: []link.Record{record}},
		{From: from, Ack: []link.Header{record.Header}},
		{From: from, Relay: &Relay{Source: "a", Target: "b", TTL: 8, Req: 5, Kind: "k", Body: []byte{0, 1, 255}}},
	}
}

// TestRoundTrip: what is encoded is decoded, to the last bit.
func TestRoundTrip(t *testing.T) {
	for _, m := range samples() {
		b, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(b)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Errorf("%s: %s", b, diff)
		}
	}
}

// TestBounds: what is too large, or not from a member, is refused.
func TestBounds(t *testing.T) {
	m := samples()[7]
	m.Relay.Body = make([]byte, MaxBody+1)
	b, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(b); err == nil {
		t.Error("a body over the limit is taken")
	}
	m.Relay.Body = make([]byte, MaxFrame)
	if _, err := Encode(m); err == nil {
		t.Error("a frame over the limit is written")
	}
	for _, text := range []string{"", "{}", `{"f":{"i":"a"}}`, `{"f":{"i":"../x","o":1}}`, `{"f":{"i":"a","o":1},"update":[{"k":1,"i":"b"}]}`} {
		if _, err := Decode([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if _, err := Decode(bytes.Repeat([]byte(" "), MaxFrame+1)); err == nil {
		t.Error("a frame over the limit is read")
	}
}

// FuzzDecode: nothing that comes from outside makes it panic, and what is taken can be
// written again.
func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		b, err := Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decode(again); err != nil || !cmp.Equal(m, got, cmpopts.EquateEmpty()) {
			t.Fatalf("%s is read as another: %v", again, err)
		}
	})
}
