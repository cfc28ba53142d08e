// Package client is a recipient's side of the protocol in
// presence/gateway/PROTOCOL.md: it connects, shows each message once, remembers
// ids durably, acknowledges, and stays connected.
//
// It guarantees:
//   - acknowledged implies remembered: an acknowledgement leaves only after
//     Store.Sync has returned for its id;
//   - OnMessage is called once for an id as long as the store remembers it, whatever
//     the gateway repeats and however often connections break, except in the
//     instant that Order describes;
//   - an id is forgotten only when the gateway says that it is settled, and each
//     hello lists exactly the ids that the store remembers;
//   - what it cannot remember (the store fails, or MaxUnsettled ids are in it) it
//     does not acknowledge;
//   - a message whose withdrawal has been read is not shown any more, and OnWithdraw is
//     called at least once for each withdrawal before it is acknowledged;
//   - OnMessage and OnWithdraw are called by one goroutine, one at a time.
//
// Showing and remembering are two acts, and the process can die between them. No
// order of them is right for everybody, so Config.Order offers both:
//
//   - ShowFirst (default), at least once: OnMessage, Store.Add, then Store.Sync and the
//     acknowledgement for all messages of the next 20 ms. A process killed between
//     the return of OnMessage and that of Add shows the message again; a power cut
//     up to the Sync does too. Nothing is lost.
//   - StoreFirst, at most once: Store.Add and Store.Sync, OnMessage, then the
//     acknowledgement. A process killed between Sync and OnMessage never shows the
//     message, and it counts as delivered. Nothing is shown twice.
//
// An application that stores messages itself has no such instant: it implements
// Store with the same database, and OnMessage adds the id in the transaction that
// stores the message.
//
// Memory: what was read and not yet handled, at most 128 frames; of a gateway that
// keeps to the protocol at most 64 of them are messages of at most 256 KiB, and no
// gateway can make one longer than some 640 KiB. One frame of 2 MiB while it is
// parsed. MaxUnsettled ids of at most 128 bytes. Three goroutines a connection.
package client
