// Package audience keeps big sets of recipients: recipient packages and the
// snapshots of followers and suppression lists.
//
// A set lives in an envelope (a .crpk file): a header that says what the set is
// and the set itself in the portable 32-bit roaring format. What the package
// guarantees:
//
//   - One set has one digest, whatever its source: the SHA-256 of its ids in
//     ascending order, four bytes each, little-endian.
//   - Open checks lengths and the header before anything else, Verify the whole.
//     After Verify has passed, the set is the one that was written; no mutation
//     of the bytes passes with another set.
//   - Hostile bytes give an error: no panic, and memory bounded by the header of
//     65,536 containers (about 1 MiB) and one range (at most 2 MiB).
//   - A file appears whole under its name or not at all.
//   - Sets are read a range at a time, so that memory does not grow with them.
//
// Building takes ids in any order, with repeats, from anything that is a Source.
package audience
