package members

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"

	"crier/audience"
	"crier/internal/idset"
	"crier/job"
)

// IDsResult tells what ImportIDs did: Read = Repeated + Already + Added.
type IDsResult struct {
	Read        uint64 `json:"read"`
	Repeated    uint64 `json:"repeated"` // in the source
	Already     uint64 `json:"already"`  // in the set before
	Added       uint64 `json:"added"`
	Revision    uint64 `json:"revision"` // of the set now
	Cardinality uint64 `json:"cardinality"`
}

// ImportIDs puts all ids of a source into a set, in one revision: all of them, or
// none after an error. It takes the memory of building a package (audience.Build)
// and needs room for that package in the scratch directory.
func (s *Store) ImportIDs(ctx context.Context, key Key, src audience.Source) (res IDsResult, err error) {
	if err := key.Validate(); err != nil {
		return res, job.Invalid("key", "importing into a versioned set", err)
	}
	dir, err := os.MkdirTemp(s.cfg.Scratch, "ids-*")
	if err != nil {
		return res, storing(key, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	info, err := audience.Build(ctx, dir, src)
	if err != nil {
		return res, storing(key, err)
	}
	ids, err := audience.Open(filepath.Join(dir, info.Name+audience.Extension))
	if err != nil {
		return res, storing(key, err)
	}
	defer func() { err = errors.Join(err, ids.Close()) }()
	done, err := s.commit(ctx, key, false, func(c *change) error { return putAll(ctx, c, ids) })
	return IDsResult{Read: info.Cardinality + info.Repeated, Repeated: info.Repeated, Already: done.Already,
		Added: done.Changed, Revision: done.Revision, Cardinality: done.Cardinality}, err
}

// putAll gives a whole set to a change.
func putAll(ctx context.Context, c *change, ids audience.Ranged) error {
	for q := range ids.Ranges() {
		if err := ctx.Err(); err != nil {
			return err
		}
		set, err := ids.Range(q)
		if err != nil {
			return err
		}
		if err := c.put(set); err != nil {
			return err
		}
	}
	return nil
}

// EdgeOptions say how to read edges.
type EdgeOptions struct {
	// File is how errors call the input; default "input".
	File string
	// Account, if not nil, is the only account whose edges count.
	Account *uint32
	// Skip is the number of lines to pass over at the start, whatever they hold.
	Skip int
}

// EdgesResult tells what ImportEdges did: Edges = SelfLoops + OtherAccounts +
// Repeated + Already + Added.
type EdgesResult struct {
	Edges           uint64 `json:"edges"`
	SelfLoops       uint64 `json:"self_loops"`
	OtherAccounts   uint64 `json:"other_accounts"` // not to the only account that counts
	Repeated        uint64 `json:"repeated"`       // in the file
	Already         uint64 `json:"already"`        // followed before
	Added           uint64 `json:"added"`
	AccountsCreated uint64 `json:"accounts_created"`
	AccountsTouched uint64 `json:"accounts_touched"` // whose followers changed
}

// ImportEdges reads edges "src dst", src follows dst, and adds each account's
// followers in one revision of it. The account of a dst that has none is made,
// with that number and the number as its name. It is all or nothing: the whole
// input is read before anything is stored, and all is stored in one transaction.
//
// It holds EdgesInMemory edges and sorts more by way of the scratch directory, up
// to 256 times as many; beyond, it refuses (job.CodeTooLarge). No other change of
// a versioned set goes on while it stores.
func (s *Store) ImportEdges(ctx context.Context, r io.Reader, opts EdgeOptions) (res EdgesResult, err error) {
	edges := &sorter{dir: s.cfg.Scratch, limit: s.cfg.EdgesInMemory}
	defer func() { err = errors.Join(err, edges.close()) }()
	read, err := readEdges(ctx, r, opts, edges)
	if err != nil {
		return EdgesResult{}, err
	}
	unlock, err := s.lockAll(ctx)
	if err != nil {
		return EdgesResult{}, err
	}
	defer unlock()
	for try := 1; ; try++ {
		im := &edgeImport{s: s, edges: edges, res: read}
		made, err := s.cfg.Sets.Append(ctx, im.changes(ctx))
		switch {
		case err == nil:
			im.res.AccountsCreated = uint64(made)
			return im.res, nil
		case !errors.Is(err, ErrStale):
			return EdgesResult{}, fmt.Errorf("importing followers: %w", err)
		case try == tries:
			return EdgesResult{}, busy("importing followers", err)
		}
	}
}

// readEdges puts the edges that count into the sorter and counts the others.
func readEdges(ctx context.Context, r io.Reader, opts EdgeOptions, to *sorter) (res EdgesResult, err error) {
	if opts.File == "" {
		opts.File = "input"
	}
	if opts.Skip < 0 {
		return res, job.Invalid("skip", fmt.Sprintf("%d lines cannot be skipped", opts.Skip), nil)
	}
	in, err := newEdgeReader(r, opts.File, opts.Skip)
	if err != nil {
		return res, err
	}
	for {
		if res.Edges%(1<<16) == 0 && ctx.Err() != nil {
			return res, fmt.Errorf("reading %s: %w", opts.File, ctx.Err())
		}
		e, err := in.next()
		if err == io.EOF {
			return res, nil
		}
		if err != nil {
			return res, err
		}
		res.Edges++
		switch {
		case e.src() == e.dst():
			res.SelfLoops++
		case opts.Account != nil && e.dst() != *opts.Account:
			res.OtherAccounts++
		default:
			if err := to.add(e); err != nil {
				return res, err
			}
		}
	}
}

// edgeImport turns sorted edges into the changes of one transaction.
type edgeImport struct {
	s     *Store
	edges *sorter
	res   EdgesResult
	known headScan
	cur   *change    // of the account under way
	set   *idset.Set // its followers of one range, not yet in cur
}

// changes yields one change an account.
func (im *edgeImport) changes(ctx context.Context) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		defer im.abandon()
		last, first := edge(0), true
		for e, err := range im.edges.sorted() {
			switch {
			case err != nil:
			case !first && e == last:
				im.res.Repeated++
				continue
			case im.cur == nil || e.dst() != last.dst():
				var made Change
				if made, err = im.finish(ctx); err == nil && !first && !yield(made, nil) {
					return
				}
				if err == nil {
					err = im.start(ctx, e.dst())
				}
			}
			if err == nil {
				err = im.add(e.src())
			}
			if err != nil {
				yield(Change{}, err)
				return
			}
			last, first = e, false
		}
		if made, err := im.finish(ctx); !first {
			yield(made, err)
		}
	}
}

// start begins the change of an account.
func (im *edgeImport) start(ctx context.Context, account uint32) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	key := Followers(account)
	known, err := im.known.has(ctx, im.s.cfg.Sets, key)
	if err != nil {
		return err
	}
	if known {
		im.cur, err = im.s.change(ctx, key, false)
		return err
	}
	im.cur = &change{s: im.s, head: Head{Key: key}, old: &Reader{key: key}}
	return nil
}

// add takes a follower; they come in ascending order.
func (im *edgeImport) add(src uint32) error {
	q := job.Recipient(src).Range()
	if im.set != nil && im.set.Range != q {
		if err := im.flush(); err != nil {
			return err
		}
	}
	if im.set == nil {
		im.set = idset.New(q)
	}
	im.set.Add(src)
	return nil
}

func (im *edgeImport) flush() error {
	set := im.set
	im.set = nil
	if set == nil {
		return nil
	}
	return im.cur.put(set)
}

// finish gives the change of the account under way, if there is one.
func (im *edgeImport) finish(ctx context.Context) (made Change, err error) {
	if im.cur == nil {
		return made, nil
	}
	if err := im.flush(); err != nil {
		return made, err
	}
	c := im.cur
	im.cur = nil
	defer func() { err = errors.Join(err, c.close()) }()
	if made, err = c.finish(ctx); err != nil {
		return made, err
	}
	made.MakeAccount = true
	im.res.Added += c.changed
	im.res.Already += c.already
	if !made.IsEmpty() {
		im.res.AccountsTouched++
	}
	return made, nil
}

// abandon frees what an import that ended early holds.
func (im *edgeImport) abandon() {
	im.set.Release()
	im.set = nil
	if im.cur != nil {
		// The change is thrown away, and why was told already.
		_ = im.cur.close()
		im.cur = nil
	}
}

// headScan tells, for keys that come in ascending order, which sets were ever
// changed. It looks at a page of them at a time, so that an import into an empty
// store asks once.
type headScan struct {
	page []Head
	end  bool // nothing follows the page
}

func (h *headScan) has(ctx context.Context, sets Sets, key Key) (bool, error) {
	const limit = 500
	for {
		for len(h.page) > 0 && h.page[0].Owner < key.Owner {
			h.page = h.page[1:]
		}
		if len(h.page) > 0 || h.end {
			return len(h.page) > 0 && h.page[0].Owner == key.Owner, nil
		}
		var err error
		if h.page, err = sets.Scan(ctx, key.Kind, key.Owner, limit); err != nil {
			return false, err
		}
		h.end = len(h.page) < limit
	}
}
