package sets

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"crier/api"
	"crier/audience"
	"crier/audience/members"
	"crier/internal/idset"
	"crier/job"
	"crier/state/sql"
)

// maxPackage is the largest package that is taken in: the whole id space takes
// 512 MiB, and its index 1 MiB.
const maxPackage = 600 << 20

// ImportPackage implements api.Packages: the envelope is read to a scratch file,
// verified, kept as a blob, and recorded last.
func (s *Sets) ImportPackage(ctx context.Context, req api.ImportPackage, body io.Reader) (api.Package, error) {
	a, err := s.Account(ctx, req.Account)
	if err != nil {
		return api.Package{}, err
	}
	f, err := os.CreateTemp(s.Scratch, "upload-*")
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
	digest, size, err := s.Blobs.Put(ctx, f)
	if err != nil {
		return api.Package{}, err
	}
	api.ActOf(ctx).On(a.Tenant, "package/"+info.SHA256.String())
	name := req.Name
	if name == "" {
		name = info.Name
	}
	p, err := s.Store.Packages.Put(ctx, sql.Package{Account: a.Number, Name: name, Set: info.SHA256, Blob: digest, Cardinality: info.Cardinality,
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
func (s *Sets) ListPackages(ctx context.Context, account string, page api.Page) (api.PackageList, error) {
	list := api.PackageList{Packages: []api.Package{}}
	c, err := api.CallerOf(ctx)
	if err != nil {
		return list, err
	}
	var of *uint32
	if account != "" {
		a, err := s.Account(ctx, account)
		if err != nil {
			return list, err
		}
		of = &a.Number
	}
	found, next, err := s.Store.Packages.Of(c.Scope()).Newest(ctx, of, page.Cursor, page.Size())
	if err != nil {
		return list, err
	}
	names := map[uint32]string{}
	for _, p := range found {
		if _, ok := names[p.Account]; !ok {
			a, err := s.Store.Accounts.Get(ctx, p.Account)
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
func (s *Sets) GetPackage(ctx context.Context, id job.Digest) (api.Package, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return api.Package{}, err
	}
	p, err := s.Store.Packages.Of(c.Scope()).BySet(ctx, id)
	if err != nil {
		return api.Package{}, err
	}
	a, err := s.Store.Accounts.Get(ctx, p.Account)
	if err != nil {
		return api.Package{}, err
	}
	return describePackage(p, a.Name), nil
}

// ExportSet implements api.Packages: the set is written to a scratch file a range at a
// time, and from there.
func (s *Sets) ExportSet(ctx context.Context, req api.ExportSet, w io.Writer) (err error) {
	if err := req.Validate(); err != nil {
		return err
	}
	name, key, err := s.keptSet(ctx, req)
	var wrong *job.Error
	if errors.As(err, &wrong) && wrong.Field != "" {
		of := *wrong
		of.Field = "of" // whatever it names
		err = &of
	}
	if err != nil {
		return err
	}
	set, err := s.Members.Current(ctx, key)
	if err != nil {
		return err
	}
	defer set.Close() // only read
	draft, err := s.Draft(ctx, strings.ReplaceAll(name, `\`, "_"), func(add func(*idset.Set) error) error {
		for q := range set.Ranges() {
			ids, err := set.Range(q)
			if err != nil {
				return err
			}
			err = add(ids)
			ids.Release()
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, draft.Discard()) }()
	return Export(draft, w)
}

// Export writes the file of a package.
func Export(draft *audience.Draft, w io.Writer) error {
	f, err := os.Open(draft.Path())
	if err != nil {
		return fmt.Errorf("reading the export: %w", err)
	}
	defer f.Close() // only read
	_, err = io.Copy(w, f)
	return err
}

// ExportIDs writes the ids of a package, one a line.
func ExportIDs(ctx context.Context, draft *audience.Draft, w io.Writer) error {
	set, err := audience.Open(draft.Path())
	if err != nil {
		return fmt.Errorf("reading the export: %w", err)
	}
	defer set.Close() // only read
	out := bufio.NewWriterSize(w, 64<<10)
	var line []byte
	for q := range set.Ranges() {
		ids, err := set.Range(q)
		if err != nil {
			return fmt.Errorf("reading the export: %w", err)
		}
		for id := range ids.All() {
			line = append(strconv.AppendUint(line[:0], uint64(id), 10), '\n')
			if _, err := out.Write(line); err != nil {
				ids.Release()
				return err
			}
		}
		ids.Release()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return out.Flush()
}

// keptSet finds the set that an export is of, and what its package is called.
func (s *Sets) keptSet(ctx context.Context, req api.ExportSet) (name string, key members.Key, err error) {
	switch req.Kind {
	case api.SetSegment:
		c, err := api.CallerOf(ctx)
		if err == nil && !c.Sees(job.DefaultTenant) {
			err = job.NotFound(fmt.Sprintf("there is no segment %q", api.Printable(req.Of)))
		}
		if err != nil {
			return "", members.Key{}, err
		}
		x, err := s.Store.Segments.Find(ctx, req.Of)
		return x.Name, members.Segment(x.Number), err
	case api.SetFollowers:
		a, err := s.Account(ctx, req.Of)
		return a.Name, members.Followers(a.Number), err
	}
	list, key, err := s.suppression(ctx, req.Of)
	if list.Account == "" {
		list.Account = api.SetSuppression
	}
	return list.Account, key, err
}

// Draft writes a set as the file of a package, which is its caller's to discard: each gives
// it range by range, in ascending order.
func (s *Sets) Draft(ctx context.Context, name string, each func(add func(*idset.Set) error) error) (*audience.Draft, error) {
	w, err := audience.NewWriter(s.Scratch, name)
	if err != nil {
		return nil, storing(err)
	}
	defer w.Abort()
	err = each(func(ids *idset.Set) error {
		if err := w.Add(ids); err != nil {
			return storing(err)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	d, err := w.Finish(0)
	if err != nil {
		return nil, storing(err)
	}
	return d, nil
}
