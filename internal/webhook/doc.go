// Package webhook tells receivers outside what becomes of jobs: it takes deliveries, which
// a trigger wrote beside the projection of the job, and sends each, signed as Standard
// Webhooks has it, until the receiver takes it, wants no more, or a day is over.
//
// It guarantees that each delivery is sent at least once, and by the same id however often
// it is sent, so that a receiver can tell repeats; that no request goes to an address that
// the Guard refuses, whatever names resolve to; and that a slow receiver holds up others
// only by the slots that it has. What a process that died was sending is sent again when
// its lease is over.
package webhook
