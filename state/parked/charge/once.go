package charge

import (
	"encoding/binary"

	"crier/job"
	"crier/state/parked/row"
)

// Once gives until which hour since 1970-01-01 UTC the last of what is sent once counts that
// a recipient got; 0 if nothing of it is kept.
func (b Book) Once(who job.Recipient) (until uint32, err error) {
	once := row.Key(who.Range(), rowOnce)
	at := len(once) + len(job.OnceKey{})
	err = b.Rows.Scan(once, row.After(once), func(k, v []byte) error {
		s, err := row.Set(v)
		if err == nil && s.Has(uint32(who)) {
			until = max(until, binary.BigEndian.Uint32(k[at:]))
		}
		s.Release()
		return err
	})
	return until, err
}
