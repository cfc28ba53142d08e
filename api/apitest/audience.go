package apitest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	"crier/api"
	"crier/job"
)

func (f *Fake) change(method, account string, ids []job.Recipient, follow bool) (api.FollowersChange, error) {
	if err := f.enter(method); err != nil {
		return api.FollowersChange{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	a, err := f.findLocked(account)
	if err != nil {
		return api.FollowersChange{}, err
	}
	out := api.FollowersChange{Account: a.Name, AccountID: a.ID}
	out.Changed = flip(f.mu.followers[a.ID], ids, follow)
	out.Unchanged = uint64(len(ids)) - out.Changed
	a.Followers = uint64(len(f.mu.followers[a.ID]))
	a.Revision++
	out.Followers, out.Revision = a.Followers, a.Revision
	return out, nil
}

// flip puts ids into a set or takes them out and counts those that changed.
func flip(set map[job.Recipient]bool, ids []job.Recipient, in bool) uint64 {
	n := uint64(0)
	for _, id := range ids {
		if set[id] == in {
			continue
		}
		n++
		if in {
			set[id] = true
		} else {
			delete(set, id)
		}
	}
	return n
}

// AddFollowers implements api.Service.
func (f *Fake) AddFollowers(_ context.Context, account string, ids []job.Recipient) (api.FollowersChange, error) {
	return f.change("AddFollowers", account, ids, true)
}

// RemoveFollowers implements api.Service.
func (f *Fake) RemoveFollowers(_ context.Context, account string, ids []job.Recipient) (api.FollowersChange, error) {
	return f.change("RemoveFollowers", account, ids, false)
}

// ImportFollowers implements api.Service for files that are not gzipped.
func (f *Fake) ImportFollowers(_ context.Context, req api.ImportFollowers, body io.Reader) (api.FollowersImport, error) {
	if err := f.enter("ImportFollowers"); err != nil {
		return api.FollowersImport{}, err
	}
	pairs, out, err := readPairs(req, body)
	if err != nil {
		return api.FollowersImport{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if req.Account != "" {
		if _, err := f.findLocked(req.Account); err != nil {
			return api.FollowersImport{}, err
		}
	}
	touched, seen := map[uint32]bool{}, map[pair]bool{}
	for _, p := range pairs {
		if seen[p] {
			out.Repeated++
			continue
		}
		seen[p] = true
		a, err := f.findLocked(p.account)
		if err != nil {
			a = f.createLocked(p.account)
			out.AccountsCreated++
		}
		if flip(f.mu.followers[a.ID], []job.Recipient{p.follower}, true) == 0 {
			out.Already++
			continue
		}
		out.Added++
		a.Followers++
		if !touched[a.ID] {
			touched[a.ID] = true
			a.Revision++
		}
	}
	out.AccountsTouched = uint64(len(touched))
	return out, nil
}

type pair struct {
	follower job.Recipient
	account  string
}

func readPairs(req api.ImportFollowers, body io.Reader) ([]pair, api.FollowersImport, error) {
	var out api.FollowersImport
	var pairs []pair
	scan := bufio.NewScanner(body)
	for n := 1; scan.Scan(); n++ {
		if n <= req.Skip {
			continue
		}
		words := strings.FieldsFunc(scan.Text(), func(r rune) bool { return r == ' ' || r == '\t' || r == ',' })
		if req.Format == api.FormatEdges && len(words) != 2 {
			return nil, out, job.Invalid("", fmt.Sprintf("line %d: want two numbers", n), nil)
		}
		for i, w := range words {
			id, err := job.ParseRecipient(w)
			if err != nil {
				return nil, out, job.Invalid("", fmt.Sprintf("line %d, column %d: %s", n, i+1, err), nil)
			}
			if req.Format == api.FormatIDs || i == 1 {
				out.Read++
			}
			switch {
			case req.Format == api.FormatIDs:
				pairs = append(pairs, pair{id, req.Account})
			case i == 1 && words[0] == w:
				out.SelfLoops++
			case i == 1 && req.Account != "" && req.Account != w:
				out.OtherAccounts++
			case i == 1:
				src, _ := job.ParseRecipient(words[0])
				pairs = append(pairs, pair{src, w})
			}
		}
	}
	return pairs, out, scan.Err()
}

// AddSuppressed implements api.Service.
func (f *Fake) AddSuppressed(_ context.Context, req api.SuppressionChange) (api.SuppressionList, error) {
	return f.suppress("AddSuppressed", req, true)
}

// RemoveSuppressed implements api.Service.
func (f *Fake) RemoveSuppressed(_ context.Context, req api.SuppressionChange) (api.SuppressionList, error) {
	return f.suppress("RemoveSuppressed", req, false)
}

// GetSuppression implements api.Service.
func (f *Fake) GetSuppression(_ context.Context, account string) (api.SuppressionList, error) {
	return f.suppress("GetSuppression", api.SuppressionChange{Account: account}, false)
}

func (f *Fake) suppress(method string, req api.SuppressionChange, in bool) (api.SuppressionList, error) {
	if err := f.enter(method); err != nil {
		return api.SuppressionList{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out api.SuppressionList
	if req.Account != "" {
		a, err := f.findLocked(req.Account)
		if err != nil {
			return out, err
		}
		id := a.ID
		out.Account, out.AccountID = a.Name, &id
	}
	list := f.listLocked(out.Account)
	out.Changed = flip(list, req.IDs, in)
	if out.Changed > 0 {
		f.mu.revisions[out.Account]++
	}
	out.Entries, out.Revision = uint64(len(list)), f.mu.revisions[out.Account]
	return out, nil
}

// ImportPackage implements api.Service.
func (f *Fake) ImportPackage(_ context.Context, req api.ImportPackage, body io.Reader) (api.Package, error) {
	if err := f.enter("ImportPackage"); err != nil {
		return api.Package{}, err
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return api.Package{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	a, err := f.findLocked(req.Account)
	if err != nil {
		return api.Package{}, err
	}
	if len(data) == 0 {
		return api.Package{}, job.Invalid("", "the file is no recipient package: it is empty", nil)
	}
	sum := job.Digest(sha256.Sum256(data))
	for _, p := range f.mu.packages {
		if p.ID == sum {
			return p, nil
		}
	}
	p := api.Package{ID: sum, SHA256: sum, Blob: sum, Name: req.Name, Account: a.Name, AccountID: a.ID,
		Cardinality: uint64(len(data)), Min: 1, Max: uint32(len(data)), Bytes: uint64(len(data)), CreatedAt: f.Now()}
	f.mu.packages = append(f.mu.packages, p)
	return p, nil
}

// ListPackages implements api.Service.
func (f *Fake) ListPackages(_ context.Context, account string, page api.Page) (api.PackageList, error) {
	if err := f.enter("ListPackages"); err != nil {
		return api.PackageList{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var match []api.Package
	for _, p := range f.mu.packages {
		if account == "" || p.Account == account || fmt.Sprint(p.AccountID) == account {
			match = append(match, p)
		}
	}
	items, next, err := cut(newestFirst(match), page)
	return api.PackageList{Packages: items, Next: next}, err
}

// GetPackage implements api.Service.
func (f *Fake) GetPackage(_ context.Context, id job.Digest) (api.Package, error) {
	if err := f.enter("GetPackage"); err != nil {
		return api.Package{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.mu.packages {
		if p.ID == id {
			return p, nil
		}
	}
	return api.Package{}, job.NotFound("there is no package " + id.String())
}
