package operator

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"crier/api"
	"crier/internal/bus"
	"crier/job"
)

// Here is what one process knows of where a recipient is.
type Here struct {
	ID      string          `json:"id"`                // of the member
	Online  []api.Connected `json:"online,omitzero"`   // to its gateway
	Home    string          `json:"home,omitzero"`     // its worker, if that is home to the recipient
	Primary string          `json:"primary,omitempty"` // as the home has it
}

// recipientTo is where a member is asked where a recipient is, whose number is the question.
func recipientTo(id string) string { return "crier.member." + id + ".recipient" }

// answerRecipient tells what this process knows of a recipient.
func (o *Operator) answerRecipient(id string, m bus.Msg) {
	who, err := job.ParseRecipient(string(m.Data))
	if err != nil {
		o.cfg.Logger.Debug("a question about a recipient", "error", err)
		return // who asks learns that there is no answer
	}
	b, err := json.Marshal(o.here(id, who))
	if err == nil {
		err = m.Respond(b)
	}
	if err != nil {
		o.cfg.Logger.Debug("answering about a recipient", "error", err)
	}
}

func (o *Operator) here(id string, who job.Recipient) Here {
	h := Here{}
	if o.cfg.Here != nil {
		h = o.cfg.Here(who)
	}
	h.ID = id
	return h
}

// Whereabouts asks every member where a recipient is, within a bound. Members that are over
// are asked nothing: nobody is connected to them.
func (o *Operator) Whereabouts(ctx context.Context, who job.Recipient) api.Whereabouts {
	s := o.cfg.Membership.Snapshot(ctx)
	told := []Here{o.here(s.Self.ID, who)}
	questions := map[string]string{}
	for id := range known(&s, nil) {
		if id != s.Self.ID {
			questions[id] = recipientTo(id)
		}
	}
	answers, silent := o.ask(ctx, questions, []byte(who.String()))
	for _, id := range slices.Sorted(maps.Keys(answers)) {
		var h Here
		if err := json.Unmarshal(answers[id], &h); err != nil || h.ID != id {
			silent = append(silent, api.Silent{Name: id, Why: "its answer cannot be read"})
			continue
		}
		told = append(told, h)
	}
	out := api.Whereabouts{Online: []api.Connected{}, Home: o.cfg.Claims.Home(who.Range()), Silent: sorted(silent)}
	for _, h := range told {
		out.Online = append(out.Online, h.Online...)
		if h.Home == out.Home && h.Home != "" { // a worker that lost the range may still believe something
			out.Primary = h.Primary
		}
	}
	slices.SortFunc(out.Online, func(a, b api.Connected) int { return cmp.Compare(a.Gateway, b.Gateway) })
	return out
}

// Sockets sums up the connections of a recipient, by when they were made.
func Sockets(gateway string, since []time.Time) []api.Connected {
	if len(since) == 0 {
		return nil
	}
	return []api.Connected{{Gateway: gateway, Connections: len(since), Since: slices.MinFunc(since, time.Time.Compare).UTC().Round(0)}}
}
