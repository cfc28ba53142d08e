package client

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
)

// The log is text: a first line that says what it is, then a record a line:
//
//	CHECKSUM OP ID LF
//
// with the CRC-32C, in eight hexadecimal digits, of OP, a blank and ID. Whatever a
// crash leaves between two line feeds is a record or is not one; a torn or damaged
// one says nothing about its neighbours.
const (
	logMagic = "crier client 1\n"
	maxLog   = 16 << 20 // a longer file is not ours

	opClient byte = 'c' // the id of the installation
	opAdd    byte = '+' // a message was shown
	opForget byte = '-' // it is settled
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// memoir is what a log says.
type memoir struct {
	client  string
	ids     map[string]struct{}
	damaged int // records that could not be read
}

var errNotLog = errors.New("this is not a memory of what was shown; name another file, or delete it (unsettled messages may then be shown again)")

func parseLog(data []byte) (memoir, error) {
	m := memoir{ids: map[string]struct{}{}}
	if len(data) == 0 {
		return m, nil
	}
	rest, ok := bytes.CutPrefix(data, []byte(logMagic))
	if !ok {
		return m, errNotLog
	}
	for len(rest) > 0 {
		line, more, whole := bytes.Cut(rest, []byte("\n"))
		rest = more
		op, id, ok := parseRecord(line)
		switch {
		case !whole || !ok:
			m.damaged++
		case op == opClient:
			m.client = id
		case op == opAdd:
			m.ids[id] = struct{}{}
		case op == opForget:
			delete(m.ids, id)
		}
	}
	return m, nil
}

func appendRecord(b []byte, op byte, id string) []byte {
	text := string(op) + " " + id
	return fmt.Appendf(b, "%08x %s\n", crc32.Checksum([]byte(text), castagnoli), text)
}

func parseRecord(line []byte) (op byte, id string, ok bool) {
	const head = len("00000000 + ")
	if len(line) <= head || len(line) > head+maxID {
		return 0, "", false
	}
	op, id = line[head-2], string(line[head:])
	return op, id, validID(id) && bytes.Equal(append(line[:len(line):len(line)], '\n'), appendRecord(nil, op, id))
}
