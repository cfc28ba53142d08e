package apitest

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"crier/api"
	"crier/job"
)

// TailLedger implements api.Service; a filter is a prefix here.
func (f *Fake) TailLedger(ctx context.Context, req api.TailLedger, fn func(api.LedgerEntry) error) error {
	if err := f.enter("TailLedger"); err != nil {
		return err
	}
	for from := max(req.From, 1); ; {
		f.mu.Lock()
		all, changed := f.mu.entries, f.mu.changed
		f.mu.Unlock()
		for ; from <= uint64(len(all)); from++ {
			if !strings.HasPrefix(all[from-1].Subject, strings.TrimSuffix(req.Filter, ">")) {
				continue
			}
			if err := fn(all[from-1]); err != nil {
				return err
			}
		}
		if !req.Follow {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// VerifyLedger implements api.Service.
func (f *Fake) VerifyLedger(context.Context) (api.LedgerReport, error) {
	if err := f.enter("VerifyLedger"); err != nil {
		return api.LedgerReport{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := uint64(len(f.mu.entries))
	return api.LedgerReport{Valid: true, Streams: []api.LedgerStream{
		{Name: "LEDGER", First: min(1, n), Last: n, Records: n, Bytes: 100 * n, Limit: 10 << 30, Journals: 1}}}, nil
}

// Status implements api.Service.
func (f *Fake) Status(context.Context) (api.Status, error) {
	if err := f.enter("Status"); err != nil {
		return api.Status{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := api.Status{Healthy: true, Since: f.Now().Add(-time.Hour), Version: "test", StartedAt: f.Now().Add(-time.Hour),
		Roles: []string{"api", "scheduler", "worker", "gateway", "relay"}, Online: 2000, Sockets: 2001, Jobs: map[job.State]uint64{},
		Stores: []api.Store{{Name: "ledger", Bytes: 123_456_789, Limit: 10 << 30, Replicas: 3}, {Name: "controls", Bytes: 1000, Limit: 256 << 20, Replicas: 3}, {Name: "blobs", Bytes: 4096}},
		Disks: []api.Disk{{Member: "m1", Of: []string{"data", "accepted"}, Used: 69 << 30, Size: 100 << 30, Percent: 69, Level: "ok", Warn: 70, Crit: 85},
			{Member: "m1", Of: []string{"blobs"}, Used: 1 << 40, Size: 4 << 40, Percent: 25, Level: "ok", Warn: 70, Crit: 85}}}
	for _, r := range f.mu.jobs {
		s.Jobs[r.job.State]++
		if r.job.Overstayed {
			s.Overstayed++
		}
		if r.job.WaitingOn != "" && s.Oldest == nil {
			s.Oldest = &api.Waiting{Job: r.job.Job, State: r.job.State, Since: r.job.UpdatedAt, WaitingOn: r.job.WaitingOn, Blocked: true}
		}
	}
	lag := uint64(120)
	s.IndexLag = &lag
	if change := f.clusterLocked().Status; change != nil {
		change(&s)
	}
	return s, nil
}

// Backup implements api.Service: the backup is a few bytes that no one can restore.
func (f *Fake) Backup(_ context.Context, w io.Writer) error {
	if err := f.enter("Backup"); err != nil {
		return err
	}
	_, err := io.WriteString(w, "a backup")
	return err
}

// MintToken implements api.Service with tokens that open nothing.
func (f *Fake) MintToken(_ context.Context, req api.MintToken) (api.Token, error) {
	if err := f.enter("MintToken"); err != nil {
		return api.Token{}, err
	}
	ttl := req.TTL
	if ttl == 0 {
		ttl = api.DefaultTokenTTL
	}
	return api.Token{Token: fmt.Sprintf("token-of-%s", *req.Recipient), Recipient: *req.Recipient,
		Expires: f.Now().Add(time.Duration(ttl))}, nil
}
