package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"crier/api"
	"crier/audience"
	"crier/job"
	"crier/state/sql"
)

// maxPackage is the largest package that is taken in: the whole id space takes
// 512 MiB, and its index 1 MiB.
const maxPackage = 600 << 20

// ImportPackage implements api.Packages: the envelope is read to a scratch file,
// verified, kept as a blob, and recorded last.
func (s *Service) ImportPackage(ctx context.Context, req api.ImportPackage, body io.Reader) (api.Package, error) {
	a, err := s.account(ctx, req.Account)
	if err != nil {
		return api.Package{}, err
	}
	f, err := os.CreateTemp(s.cfg.Scratch, "upload-*")
	if err != nil {
		return api.Package{}, storing(err)
	}
	defer func() { f.Close(); os.Remove(f.Name()) }()
	n, err := io.Copy(f, io.LimitReader(body, maxPackage+1))
	switch {
	case err != nil:
		return api.Package{}, storing(err)
	case n > maxPackage:
		return api.Package{}, &job.Error{Code: job.CodeTooLarge, Message: fmt.Sprintf("a package has at most %d bytes", maxPackage)}
	}
	info, err := audience.Inspect(ctx, f.Name())
	switch {
	case audience.IsFormat(err):
		return api.Package{}, job.Invalid("package", "this is no whole recipient package; crier package build makes one", err)
	case err != nil:
		return api.Package{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return api.Package{}, storing(err)
	}
	digest, size, err := s.cfg.Blobs.Put(ctx, f)
	if err != nil {
		return api.Package{}, err
	}
	api.ActOf(ctx).On(a.Tenant, "package/"+info.SHA256.String())
	name := req.Name
	if name == "" {
		name = info.Name
	}
	p, err := s.cfg.Store.Packages.Put(ctx, sql.Package{Account: a.Number, Name: name, Set: info.SHA256, Blob: digest, Cardinality: info.Cardinality,
		Min: info.Min, Max: info.Max, Repeated: info.Repeated, Bytes: uint64(size)})
	if err != nil {
		return api.Package{}, err
	}
	return describePackage(p, a.Name), nil
}

// storing makes an error of an upload under way one that users understand.
func storing(err error) error {
	var known *job.Error
	if errors.As(err, &known) {
		return err
	}
	return fmt.Errorf("storing the upload: %w", err)
}

func describePackage(p sql.Package, account string) api.Package {
	return api.Package{ID: p.Set, Name: p.Name, Account: account, AccountID: p.Account, Cardinality: p.Cardinality, Min: p.Min, Max: p.Max,
		Repeated: p.Repeated, Bytes: p.Bytes, SHA256: p.Set, Blob: p.Blob, CreatedAt: p.CreatedAt}
}

// ListPackages implements api.Packages.
func (s *Service) ListPackages(ctx context.Context, account string, page api.Page) (api.PackageList, error) {
	list := api.PackageList{Packages: []api.Package{}}
	c, err := api.CallerOf(ctx)
	if err != nil {
		return list, err
	}
	var of *uint32
	if account != "" {
		a, err := s.account(ctx, account)
		if err != nil {
			return list, err
		}
		of = &a.Number
	}
	found, next, err := s.cfg.Store.Packages.Of(c.Scope()).Newest(ctx, of, page.Cursor, page.Size())
	if err != nil {
		return list, err
	}
	names := map[uint32]string{}
	for _, p := range found {
		if _, ok := names[p.Account]; !ok {
			a, err := s.cfg.Store.Accounts.Get(ctx, p.Account)
			if err != nil {
				return list, err
			}
			names[p.Account] = a.Name
		}
		list.Packages = append(list.Packages, describePackage(p, names[p.Account]))
	}
	list.Next = next
	return list, nil
}

// GetPackage implements api.Packages.
func (s *Service) GetPackage(ctx context.Context, id job.Digest) (api.Package, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return api.Package{}, err
	}
	p, err := s.cfg.Store.Packages.Of(c.Scope()).BySet(ctx, id)
	if err != nil {
		return api.Package{}, err
	}
	a, err := s.cfg.Store.Accounts.Get(ctx, p.Account)
	if err != nil {
		return api.Package{}, err
	}
	return describePackage(p, a.Name), nil
}
