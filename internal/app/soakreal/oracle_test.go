package soakreal

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"crier/api"
	"crier/job"
)

// bits is a set of ids.
type bits []uint64

func bitsOf(lists ...[]uint32) (b bits) {
	for _, list := range lists {
		for _, id := range list {
			for uint64(len(b)) <= uint64(id/64) {
				b = append(b, make([]uint64, len(b)+1024)...)
			}
			b[id/64] |= 1 << (id % 64)
		}
	}
	return b
}

func (b bits) has(id uint32) bool { return uint64(id/64) < uint64(len(b)) && b[id/64]>>(id%64)&1 == 1 }

// list gives the ids in ascending order.
func (b bits) list() (ids []uint32) {
	for w, word := range b {
		for bit := range 64 {
			if word>>bit&1 == 1 {
				ids = append(ids, uint32(w*64+bit))
			}
		}
	}
	return ids
}

// send is a job that is to be: which package goes from which account.
type send struct {
	name    string // of the package
	account string
	body    string
	set     []uint32 // ascending, each once
}

// world is what the oracle knows without asking the server.
type world struct {
	sends           []send
	followers       map[string]bits // by account
	suppressed      map[string]bits // by account; "" is the list of all
	cap, accountCap int             // messages for a recipient in a day: of all accounts, of one
	zone            *time.Location  // whose days
	players         bits            // who has a device, which was connected after the last job was sent
}

// due reports whether a recipient of a send is one whom only the caps may refuse.
func (w *world) due(s send, id uint32) bool {
	return w.followers[s.account].has(id) && !w.suppressed[""].has(id) && !w.suppressed[s.account].has(id)
}

// told is what the server tells of a job in the end.
type told struct {
	api.Reconciliation
	delivered, parked, capped []uint32 // as exported
}

// receipt is a message that a device showed, each time that it did.
type receipt struct {
	job  string
	who  uint32
	body string
	at   time.Time
}

// findings is what is wrong: of each kind the first few, and how often it was.
type findings struct {
	said  []string
	often map[string]int
}

const enough = 3

func (f *findings) add(kind, format string, a ...any) {
	if f.often == nil {
		f.often = map[string]int{}
	}
	if f.often[kind]++; f.often[kind] <= enough {
		f.said = append(f.said, kind+": "+fmt.Sprintf(format, a...))
	}
}

func (f *findings) all() []string {
	for _, kind := range slices.Sorted(maps.Keys(f.often)) {
		if n := f.often[kind]; n > enough {
			f.said = append(f.said, fmt.Sprintf("%s: %d more", kind, n-enough))
		}
	}
	return f.said
}

// places that an id has in the job that is looked at.
const (
	outside uint8 = iota
	refused       // by relation or suppression
	due
	delivered
	parked
	capped
)

var places = [...]string{"not in the package", "refused by relation or suppression", "due", "delivered", "parked", "dropped by a cap"}

// verdict is what the judge found.
type verdict struct {
	wrong []string
	// How many recipients the cap of all accounts held back, and how many an account's did.
	capped, accountCapped int
}

// judge finds what is wrong with what was told and shown; told is in the order of the sends.
//
// Who of a job the caps refuse depends on which of several jobs came first, but how many
// messages a recipient is charged in all does not: of each account as many as are due, at
// most the account's cap, and of all these at most the cap. So this must be exact.
func (w *world) judge(all []told, receipts []receipt) (v verdict) {
	var f findings
	shown := w.shown(&f, all, receipts)
	size := uint32(0)
	jobs := map[string][]int{}
	for i, s := range w.sends {
		jobs[s.account] = append(jobs[s.account], i)
		if n := len(s.set); n > 0 {
			size = max(size, s.set[n-1]+1)
		}
	}
	place, charged, allowed := make([]uint8, size), make([]int32, size), make([]int32, size)
	for _, account := range slices.Sorted(maps.Keys(jobs)) {
		mine, may := make([]int32, size), make([]int32, size)
		for _, i := range jobs[account] {
			w.judgeJob(&f, w.sends[i], all[i], shown[all[i].Job.String()], place)
			for _, id := range w.sends[i].set {
				if w.due(w.sends[i], id) {
					may[id]++
				}
				if place[id] == delivered || place[id] == parked {
					mine[id]++
				}
				place[id] = outside
			}
		}
		for id := range size {
			if mine[id] > int32(w.accountCap) {
				f.add("over the account's cap", "recipient %d is charged %d messages of account %s, the cap is %d", id, mine[id], account, w.accountCap)
			}
			if may[id] > int32(w.accountCap) {
				v.accountCapped++
			}
			charged[id] += mine[id]
			allowed[id] += min(may[id], int32(w.accountCap))
		}
	}
	for id := range size {
		if allowed[id] > int32(w.cap) {
			v.capped++
		}
		switch want := min(allowed[id], int32(w.cap)); {
		case charged[id] > want:
			f.add("over the cap", "recipient %d is charged %d messages; the caps allow %d", id, charged[id], want)
		case charged[id] < want:
			f.add("under the cap", "recipient %d is charged %d messages; the caps allow %d", id, charged[id], want)
		}
	}
	v.wrong = f.all()
	return v
}

// judgeJob holds one job to set algebra done here, and leaves in place where everybody of
// its package is.
func (w *world) judgeJob(f *findings, s send, t told, shown map[uint32]int, place []uint8) {
	what := fmt.Sprintf("package %s from account %s, job %s", s.name, s.account, t.Job)
	want := job.Counts{Package: uint64(len(s.set)), Delivered: uint64(len(t.delivered)), Parked: uint64(len(t.parked)), Dropped: map[job.Reason]uint64{}}
	for _, id := range s.set {
		switch {
		case !w.followers[s.account].has(id):
			place[id] = refused
			want.Dropped[job.ReasonRelation]++
		case !w.due(s, id):
			place[id] = refused
			want.Dropped[job.ReasonSuppressed]++
		default:
			place[id] = due
		}
	}
	if n := uint64(len(t.capped)); n > 0 {
		want.Dropped[job.ReasonFrequency] = n
	}
	for _, l := range []struct {
		is  uint8
		ids []uint32
	}{{delivered, t.delivered}, {parked, t.parked}, {capped, t.capped}} {
		for _, id := range l.ids {
			if uint64(id) >= uint64(len(place)) || place[id] == outside {
				f.add("a stranger", "%s: recipient %d is %s, and not in the package", what, id, places[l.is])
				continue
			}
			if place[id] != due {
				f.add("two places", "%s: recipient %d is %s, and also %s", what, id, places[l.is], places[place[id]])
			}
			place[id] = l.is
		}
	}
	for _, id := range s.set {
		w.judgeOne(f, what, id, place[id], shown[id])
	}
	for id, n := range shown {
		if uint64(id) >= uint64(len(place)) || place[id] == outside {
			f.add("shown to a stranger", "%s: recipient %d is not in the package and showed it %d times", what, id, n)
		}
	}
	if !t.Conserved {
		f.add("not conserved", "%s: %v", what, t.Violations)
	}
	got := t.Counts
	got.Dropped = maps.Clone(got.Dropped)
	maps.DeleteFunc(got.Dropped, func(_ job.Reason, n uint64) bool { return n == 0 })
	if !maps.Equal(got.Dropped, want.Dropped) {
		f.add("reconcile", "%s: dropped are %v, want %v", what, got.Dropped, want.Dropped)
	}
	got.Dropped, want.Dropped = nil, nil
	if !reflect.DeepEqual(got, want) {
		f.add("reconcile", "%s: the counts are %+v, want %+v", what, got, want)
	}
}

// judgeOne holds a recipient's place in a job to what the devices showed.
func (w *world) judgeOne(f *findings, what string, id uint32, is uint8, shown int) {
	switch {
	case is == due:
		f.add("lost", "%s: recipient %d is neither delivered nor parked nor dropped", what, id)
	case shown > 1:
		f.add("twice", "%s: recipient %d showed it %d times", what, id, shown)
	case is == delivered && shown == 0:
		f.add("lost", "%s: recipient %d is delivered and never showed it", what, id)
	case is != delivered && shown > 0:
		f.add("not recorded", "%s: recipient %d showed it and is %s", what, id, places[is])
	case is == parked && w.players.has(id):
		f.add("lost", "%s: recipient %d is parked, and was connected in the end", what, id)
	}
}

// shown counts by job and recipient what the devices showed, and holds each day to the caps.
func (w *world) shown(f *findings, all []told, receipts []receipt) map[string]map[uint32]int {
	type daily struct {
		day, account string // no account: of all
		who          uint32
	}
	number := map[string]int{}
	for i, t := range all {
		number[t.Job.String()] = i
	}
	shown, days := map[string]map[uint32]int{}, map[daily]int{}
	for _, r := range receipts {
		i, ok := number[r.job]
		if !ok {
			f.add("shown to a stranger", "recipient %d showed message %s, which no job sent", r.who, r.job)
			continue
		}
		s := w.sends[i]
		if r.body != s.body {
			f.add("another text", "package %s, job %s: recipient %d showed %q, want %q", s.name, r.job, r.who, r.body, s.body)
		}
		if shown[r.job] == nil {
			shown[r.job] = map[uint32]int{}
		}
		shown[r.job][r.who]++
		day := r.at.In(w.zone).Format(time.DateOnly)
		days[daily{day, "", r.who}]++
		days[daily{day, s.account, r.who}]++
	}
	for d, n := range days {
		if limit := w.cap; d.account == "" && n > limit {
			f.add("shown over the cap", "recipient %d showed %d messages on %s, the cap is %d", d.who, n, d.day, limit)
		}
		if limit := w.accountCap; d.account != "" && n > limit {
			f.add("shown over the account's cap", "recipient %d showed %d messages of account %s on %s, the cap is %d", d.who, n, d.account, d.day, limit)
		}
	}
	return shown
}
