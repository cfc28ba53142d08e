package hint

import (
	"math"
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// keep is how many of the members that a shard likes best are remembered; the few
// shards that are turned away by all of them look again.
const keep = 6

// wish is a member as a shard sees it: the cheaper, the better liked.
type wish struct {
	cost   uint64
	member uint16
}

func (a wish) before(b wish) bool {
	return a.cost < b.cost || a.cost == b.cost && a.member < b.member
}

// matching finds the stable assignment of shards to members by deferred acceptance.
// A shard asks the members in the order of its liking; a member that is full turns
// away the shard that likes it least. As both sides judge by the same costs there
// is one stable assignment only, and the order of the asking does not matter.
type matching struct {
	seeds []uint64 // of each member's hash
	inv   []uint64 // 2^invBits / weight
	cap   []int
	likes [][keep]wish // by shard, best first
	liked int          // how many of them there are
	asked []int        // by shard: how many members it has asked
	last  []wish       // by shard: whom it asked last
	owner []uint16
	has   [][]held // by member: a heap, the worst on top
}

// held is a shard as its member sees it.
type held struct {
	cost  uint64
	shard uint16
}

// worse orders what a member holds: by cost, then by number.
func (a held) worse(b held) bool { return a.cost > b.cost || a.cost == b.cost && a.shard > b.shard }

func newMatching(members []Member) *matching {
	n := len(members)
	m := &matching{seeds: make([]uint64, n), inv: make([]uint64, n), cap: caps(members), liked: min(n, keep),
		likes: make([][keep]wish, Shards), asked: make([]int, Shards), last: make([]wish, Shards),
		owner: make([]uint16, Shards), has: make([][]held, n)}
	for i, one := range members {
		m.seeds[i] = xxhash.Sum64String(one.ID)
		m.inv[i] = (1 << invBits) / uint64(one.Weight)
		m.has[i] = make([]held, 0, m.cap[i]+1)
	}
	for shard := range Shards {
		m.look(shard)
	}
	return m
}

// caps gives the number of shards that each member takes at most: slack times its
// share by weight, rounded; rounded up for all if that were too little.
func caps(members []Member) []int {
	total := 0
	for _, m := range members {
		total += int(m.Weight)
	}
	for half := total * slackDen / 2; ; half = total*slackDen - 1 {
		list, sum := make([]int, len(members)), 0
		for i, m := range members {
			list[i] = max(1, (Shards*slackNum*int(m.Weight)+half)/(total*slackDen))
			sum += list[i]
		}
		if sum >= Shards {
			return list
		}
	}
}

// look fills in whom a shard likes best.
func (m *matching) look(shard int) {
	best, n := &m.likes[shard], 0
	salt := mix(uint64(shard) + 1)
	for i, seed := range m.seeds {
		h := mix(seed ^ salt)
		if n == keep && atLeast(h)*m.inv[i] > best[keep-1].cost {
			continue
		}
		w := wish{exponential(h) * m.inv[i], uint16(i)}
		if n < keep {
			n++
		} else if !w.before(best[keep-1]) {
			continue
		}
		j := n - 1
		for ; j > 0 && w.before(best[j-1]); j-- {
			best[j] = best[j-1]
		}
		best[j] = w
	}
}

// next gives the member that a shard asks next. There is one, because the caps are
// enough for all shards.
func (m *matching) next(shard int) wish {
	n := m.asked[shard]
	m.asked[shard]++
	if n < m.liked {
		m.last[shard] = m.likes[shard][n]
		return m.last[shard]
	}
	salt, best := mix(uint64(shard)+1), wish{math.MaxUint64, nobody}
	for i := range m.seeds {
		if w := (wish{m.cost(i, salt), uint16(i)}); m.last[shard].before(w) && w.before(best) {
			best = w
		}
	}
	m.last[shard] = best
	return best
}

func (m *matching) run() {
	for shard := range Shards {
		for asking := shard; asking >= 0; {
			w := m.next(asking)
			m.owner[asking] = w.member
			asking = m.take(int(w.member), held{w.cost, uint16(asking)})
		}
	}
}

// take gives a member a shard; it returns the shard that is turned away, or -1.
func (m *matching) take(member int, h held) int {
	heap := append(m.has[member], h)
	for i := len(heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !heap[i].worse(heap[up]) {
			break
		}
		heap[i], heap[up] = heap[up], heap[i]
		i = up
	}
	m.has[member] = heap
	if len(heap) <= m.cap[member] {
		return -1
	}
	away := heap[0].shard
	heap[0] = heap[len(heap)-1]
	heap = heap[:len(heap)-1]
	for i := 0; ; {
		worst := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(heap); c++ {
			if heap[c].worse(heap[worst]) {
				worst = c
			}
		}
		if worst == i {
			break
		}
		heap[i], heap[worst] = heap[worst], heap[i]
		i = worst
	}
	m.has[member] = heap
	return int(away)
}

// The cost of a shard at a member is an exponential variate, divided by the weight:
// then a member is the cheapest in proportion to its weight. It is computed in
// integers, so that every machine gets the same.
const (
	logBits  = 12 // of the index into logs
	fracBits = 30 // of a logarithm's fraction
	invBits  = 27 // so that a cost of (65 << fracBits) / weight fits 64 bits
)

// logs is log2(1 + i/4096).
var logs = func() (t [1<<logBits + 1]uint64) {
	for i := range t {
		t[i] = uint64(math.Round(math.Log2(1+float64(i)/(1<<logBits)) * (1 << fracBits)))
	}
	return t
}()

func (m *matching) cost(member int, salt uint64) uint64 {
	return exponential(mix(m.seeds[member]^salt)) * m.inv[member]
}

// exponential is −log2 of h / 2^64, with fracBits of fraction, interpolated between
// the entries of logs.
func exponential(h uint64) uint64 {
	h |= 1
	zeros := bits.LeadingZeros64(h)
	h <<= zeros
	i := h >> (63 - logBits) & (1<<logBits - 1)
	frac := h >> (31 - logBits) & (1<<32 - 1)
	return uint64(zeros+1)<<fracBits - (logs[i] + (logs[i+1]-logs[i])*frac>>32)
}

// atLeast is a little less than exponential, and quick: −log2(x) ≥ (1 − x) / ln 2.
func atLeast(h uint64) uint64 { return (^(h | 1) >> 34) * 1477 >> 10 }

// mix spreads the bits of a number over all of it (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
