// Package source reads the ids of recipient packages from what people have: id
// texts, CSV files, roaring bitmaps, zips of these, on this machine or on a web server,
// standard input, SQL queries, Redis sets, and the sets that a server keeps: followers of
// accounts, segments, suppression lists. Each is an audience.Source, so that building knows
// nothing of formats.
//
// What it guarantees: memory is bounded whatever the input says of itself (a text
// takes 0.3 MiB, a CSV record at most 1 MiB, a roaring bitmap 1.2 MiB, a zip's
// directory 16 MiB), hostile input gives an error and never a panic, and an input
// error is a *job.Error around a *SyntaxError that says where it is.
//
// An id text has one id a line, or several separated by commas; a comma may end a
// line and lines may be empty. Lines end with LF or CRLF; blanks around an id are
// skipped. A CSV file has its ids in one column: a number from 1 on, by default 1,
// or a name. With a name the first record is the header. With a number the first
// record is a header if its cell there is empty or starts with neither a digit
// nor a sign. Both may be compressed with gzip and may start with a byte order
// mark. A roaring bitmap is in the portable 32-bit format.
package source
