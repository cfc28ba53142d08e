// Package members keeps versioned sets: the followers of each account, the
// suppression lists, one of each account and one for all, and the segments.
//
// A set is its newest snapshot, a recipient package in the blob store, and the
// increments after it, in the SQL store. It guarantees that
//
//   - the revision counts up by one with each change and stays when nothing
//     changed; a set that was never changed is empty and has revision 0;
//   - a change is there as a whole, durably, when the call returns, or not at all;
//     so is an import of any size;
//   - a Reader shows one revision for ever, whatever changes meanwhile, a range at
//     a time;
//   - a pinned revision can be read by its blob as long as the blob is kept;
//   - a worker of this process sees a suppression the moment that Add returned.
//
// Memory is bounded: a reader holds the increments in encoded form (MaxIncrements
// and MaxIncrementBytes bound them; a change that would exceed the bounds is
// stored as a snapshot), a change holds one range (2^20 ids, 128 KiB) and
// MaxChangeBytes, an import of edges EdgesInMemory. A set of any size is read and
// written range by range.
//
// A change that fails after it wrote a snapshot's blob leaves that blob; nothing
// names it, and whoever clears the blob store of what nothing names may take it.
package members
