// Package outbox is the relay: it carries the events that the SQL store's triggers
// wrote beside the projections to the stream of events.
//
// It guarantees that every row is published at least once, by its own ID, so that the
// stream stores it once unless the relay died between publishing and marking and
// nobody went on within the stream's window; consumers drop such a repeat by the
// event's job and version. Any number of relays may run: a lease keeps them from doing
// the same work, and the ID makes it harmless if they do. Rows are looked for by their
// mark and never by "id greater than the last one": a row with a lower id may be
// committed later. The order of ids is kept as far as one relay sees it; of two events
// of one job the version says which is the later one.
package outbox
