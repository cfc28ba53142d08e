package operator

import (
	"cmp"
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"crier/api"
	"crier/internal/app/member"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked"
)

const (
	readWithin = 2 * time.Second // for the last records of a page of journals
	readAtOnce = 8
)

// Journals implements service.Cluster.
func (o *Operator) Journals(ctx context.Context, page api.Page) (api.JournalList, error) {
	list := api.JournalList{Journals: []api.Journal{}}
	if o.cfg.Index == nil {
		return list, job.Unavailable("this process keeps no index of the ledger; ask one that is api, scheduler or worker")
	}
	s := o.observe(ctx)
	now := time.Now()
	all := o.cfg.Index.JournalInfos()
	for _, j := range all {
		if age := o.unsealedFor(now, &s, j); age > 0 {
			list.Unsealed++
			list.Longest = max(list.Longest, api.Duration(age))
		}
	}
	from := 0
	if page.Cursor != "" {
		after, err := job.ParseJournal(page.Cursor)
		if err != nil {
			return list, job.Invalid("cursor", "cursor: this is no cursor of this list; use the next of the page before", nil)
		}
		from, _ = slices.BinarySearchFunc(all, after, func(i parked.JournalInfo, j job.Journal) int {
			return cmp.Or(cmp.Compare(i.Journal.Worker, j.Worker), cmp.Compare(i.Journal.Incarnation, j.Incarnation), -1) // the first behind it
		})
	}
	all = all[from:]
	if len(all) > page.Size() {
		all = all[:page.Size()]
		list.Next = all[page.Size()-1].Journal.String()
	}
	list.Journals = make([]api.Journal, len(all))
	var g errgroup.Group
	g.SetLimit(readAtOnce)
	reading, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	for i, j := range all {
		list.Journals[i] = api.Journal{Journal: j.Journal.String(), Worker: j.Journal.Worker, Member: member.Of(j.Journal.Worker), Records: j.Records,
			Sealed: j.Sealed, Open: uint64(j.Open), Lapsed: s.lapsed(j.Journal), LapsedFor: api.Duration(o.unsealedFor(now, &s, j))}
		g.Go(func() error {
			o.readEnd(reading, j.Journal, &list.Journals[i])
			return nil
		})
	}
	_ = g.Wait() // what cannot be read is left out
	return list, ctx.Err()
}

// unsealedFor is for how long a journal is not sealed although its owner is over.
func (o *Operator) unsealedFor(now time.Time, s *Snapshot, j parked.JournalInfo) time.Duration {
	if j.Sealed || !s.lapsed(j.Journal) {
		return 0
	}
	return max(o.marks.age(now, unsealedMark(j.Journal)), 1) // it is seen to be so
}

// readEnd fills in what a journal's last record says.
func (o *Operator) readEnd(ctx context.Context, j job.Journal, into *api.Journal) {
	st, err := o.cfg.Log.Last(ctx, ledger.JournalSubject(j))
	if err != nil {
		o.cfg.Logger.Debug("reading the end of a journal", "journal", j.String(), "error", err)
		return
	}
	into.Last, into.LastAt = st.Seq, st.Time.UTC()
	rec, err := ledger.ParseRecord(st.Data)
	if err != nil || len(rec.Entries) == 0 {
		return
	}
	if seal, ok := rec.Entries[len(rec.Entries)-1].(ledger.Seal); ok {
		if into.SealedBy = seal.By.String(); seal.By.IsZero() {
			into.SealedBy = "itself"
		}
	}
}
