package members

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"syscall"

	"crier/job"
)

// Bounds of sorting: at most maxRuns sorted runs, each read through runBuffer
// bytes when they are merged, so 16 MiB.
const (
	maxRuns   = 256
	runBuffer = 64 << 10
	edgeBytes = 8
)

// sorter sorts any number of edges, up to maxRuns × limit, in bounded memory: it
// keeps limit of them and writes each full buffer, sorted, to a file without a
// name.
type sorter struct {
	dir   string
	limit int
	buf   []edge
	file  *os.File // nil until the first run
	runs  []int    // edges in each
}

// add takes an edge.
func (s *sorter) add(e edge) error {
	if len(s.buf) >= s.limit {
		if err := s.spill(); err != nil {
			return err
		}
	}
	s.buf = append(s.buf, e)
	return nil
}

// spill writes the buffer as a run.
func (s *sorter) spill() error {
	if len(s.runs) == maxRuns {
		return &job.Error{Code: job.CodeTooLarge, Field: "file",
			Message: fmt.Sprintf("more than %d edges in one import; divide the file", maxRuns*s.limit)}
	}
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "edges-*.tmp")
		if err != nil {
			return spilling(err)
		}
		s.file = f
		if err := os.Remove(f.Name()); err != nil {
			return spilling(err)
		}
	}
	slices.Sort(s.buf)
	w := bufio.NewWriterSize(s.file, runBuffer)
	var b [edgeBytes]byte
	for _, e := range s.buf {
		binary.LittleEndian.PutUint64(b[:], uint64(e))
		if _, err := w.Write(b[:]); err != nil {
			return spilling(err)
		}
	}
	if err := w.Flush(); err != nil {
		return spilling(err)
	}
	s.runs = append(s.runs, len(s.buf))
	s.buf = s.buf[:0]
	return nil
}

// spilling makes the error of writing the file.
func spilling(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &job.Error{Code: job.CodeFull, Err: err,
			Message: "sorting edges: the disk is full; free some space and try again"}
	}
	return fmt.Errorf("sorting edges: %w", err)
}

// close frees the file.
func (s *sorter) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// sorted yields all edges in ascending order, repeated ones too. It may be used
// again, but not at the same time.
func (s *sorter) sorted() iter.Seq2[edge, error] {
	return func(yield func(edge, error) bool) {
		slices.Sort(s.buf)
		h := &runHeap{}
		at := int64(0)
		for _, n := range s.runs {
			size := int64(n) * edgeBytes
			h.push(&run{r: bufio.NewReaderSize(io.NewSectionReader(s.file, at, size), runBuffer)})
			at += size
		}
		h.push(&run{rest: s.buf})
		for h.err == nil && len(h.runs) > 0 {
			if !yield(h.runs[0].head, nil) {
				return
			}
			h.advance()
		}
		if h.err != nil {
			yield(0, fmt.Errorf("sorting edges: %w", h.err))
		}
	}
}

// run is a sorted sequence of edges, from the file or from memory.
type run struct {
	head edge
	r    *bufio.Reader
	rest []edge
}

// next moves to the next edge; io.EOF is the end.
func (r *run) next() error {
	if r.r == nil {
		if len(r.rest) == 0 {
			return io.EOF
		}
		r.head, r.rest = r.rest[0], r.rest[1:]
		return nil
	}
	var b [edgeBytes]byte
	if _, err := io.ReadFull(r.r, b[:]); err != nil {
		return err
	}
	r.head = edge(binary.LittleEndian.Uint64(b[:]))
	return nil
}

// runHeap has the run with the least edge in front.
type runHeap struct {
	runs []*run
	err  error
}

// Len implements heap.Interface.
func (h *runHeap) Len() int { return len(h.runs) }

// Less implements heap.Interface.
func (h *runHeap) Less(i, j int) bool { return h.runs[i].head < h.runs[j].head }

// Swap implements heap.Interface.
func (h *runHeap) Swap(i, j int) { h.runs[i], h.runs[j] = h.runs[j], h.runs[i] }

// Push implements heap.Interface.
func (h *runHeap) Push(x any) { h.runs = append(h.runs, x.(*run)) }

// Pop implements heap.Interface.
func (h *runHeap) Pop() any {
	last := h.runs[len(h.runs)-1]
	h.runs = h.runs[:len(h.runs)-1]
	return last
}

// push adds a run unless it is empty.
func (h *runHeap) push(r *run) {
	switch err := r.next(); err {
	case nil:
		heap.Push(h, r)
	case io.EOF:
	default:
		h.err = err
	}
}

// advance moves the front run to its next edge.
func (h *runHeap) advance() {
	switch err := h.runs[0].next(); err {
	case nil:
		heap.Fix(h, 0)
	case io.EOF:
		heap.Pop(h)
	default:
		h.err = err
	}
}
