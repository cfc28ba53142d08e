// Package gateway is the core of a gateway: which connections it has, what it
// accepted for them, who acknowledged, and what it tells the owners of journals
// and the homes of ranges.
//
// It is pure: State.Step takes one event and the time and says what to do. It
// has no I/O, no goroutine, no clock and no randomness, and the same events give
// the same effects in the same order. One goroutine owns a State; the shell in
// gateway/ws carries the effects out in their order.
//
// It guarantees (numbers are the delivery protocol's rules):
//   - one acceptance per reserve and recipient, whatever copies of a hand-off come
//     and however late (9); nothing of a fenced journal or another incarnation (13);
//   - nothing is answered and nothing leaves for a socket before the accepted-file
//     has it (10);
//   - acknowledged is said only of a recipient whose client acknowledged the
//     message or said that it has it (14);
//   - a client is told to forget an id only behind all that was written to it, and
//     only once the owner has recorded the acknowledgement or its home says so (14).
//
// Memory: 256 bytes and 6 for each recipient of an open reserve, within
// Config.ReserveBytes; 48 bytes for each closed one that the owner's watermark has
// not passed, within Config.Reserves; bodies within Config.BodyBytes; about 400 bytes
// a connection and 40 for each id in its window (64, or up to MaxHave that the
// client listed); 200 bytes for each journal that ever handed over to this
// incarnation, at most maxJournals.
package gateway
