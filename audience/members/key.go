package members

import (
	"fmt"
	"slices"
)

// Kind tells what a versioned set is for.
type Kind uint8

// The kinds of versioned sets. The list for all accounts is a kind of its own,
// because every 32-bit number, 0 too, can be an account's.
const (
	KindFollowers         Kind = iota + 1
	KindSuppression            // who must get nothing from one account
	KindGlobalSuppression      // who must get nothing from anyone
	KindSegment                // whom jobs may aim at or leave out
)

var kindNames = [...]string{"", "followers", "suppression", "global-suppression", "segment"}

// String is the word used in the SQL store and in messages.
func (k Kind) String() string {
	if k >= 1 && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// ParseKind reads what String writes.
func ParseKind(s string) (Kind, error) {
	if i := slices.Index(kindNames[1:], s); i >= 0 {
		return Kind(i + 1), nil
	}
	return 0, fmt.Errorf("kind of set %q is unknown", s)
}

// Key names one versioned set.
type Key struct {
	Kind  Kind
	Owner uint32 // number of the account, or of the segment; 0 for the list of all accounts
}

// Followers names the set of an account's followers.
func Followers(account uint32) Key { return Key{KindFollowers, account} }

// Suppression names an account's suppression list.
func Suppression(account uint32) Key { return Key{KindSuppression, account} }

// GlobalSuppression names the suppression list of all accounts.
func GlobalSuppression() Key { return Key{Kind: KindGlobalSuppression} }

// Segment names a segment's set.
func Segment(number uint32) Key { return Key{KindSegment, number} }

// isSuppression reports whether the set is a suppression list.
func (k Key) isSuppression() bool {
	return k.Kind == KindSuppression || k.Kind == KindGlobalSuppression
}

// String names the set in words.
func (k Key) String() string {
	switch k.Kind {
	case KindFollowers:
		return fmt.Sprintf("followers of account %d", k.Owner)
	case KindSuppression:
		return fmt.Sprintf("suppression list of account %d", k.Owner)
	case KindGlobalSuppression:
		return "global suppression list"
	case KindSegment:
		return fmt.Sprintf("segment %d", k.Owner)
	}
	return fmt.Sprintf("%s of %d", k.Kind, k.Owner)
}

// Validate refuses a key that names no set.
func (k Key) Validate() error {
	if k.Kind < KindFollowers || k.Kind > KindSegment {
		return fmt.Errorf("%s is unknown", k.Kind)
	}
	if k.Kind == KindGlobalSuppression && k.Owner != 0 {
		return fmt.Errorf("the global suppression list has no owner, but %d is given", k.Owner)
	}
	return nil
}
