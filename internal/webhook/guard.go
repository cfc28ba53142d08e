package webhook

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"syscall"

	"crier/job"
)

// Guard says where requests may go: to public addresses by https, and to networks that are
// allowed by http, too.
type Guard struct {
	// Allow are networks of this place that receivers may be in. Default: none.
	Allow []netip.Prefix
}

// closed are the networks that are not the public internet's.
var closed = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
	"192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "3fff::/20")

// global is where the public addresses of IPv6 are.
var global = netip.MustParsePrefix("2000::/3")

// embedding are networks of IPv6 whose addresses stand for one of IPv4, which begins at a
// byte: of NAT64 and 6to4.
var embedding = []struct {
	of netip.Prefix
	at int
}{{netip.MustParsePrefix("64:ff9b::/96"), 12}, {netip.MustParsePrefix("2002::/16"), 2}}

func prefixes(all ...string) (out []netip.Prefix) {
	for _, text := range all {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// allows reports whether an address is in a network that is allowed.
func (g Guard) allows(a netip.Addr) bool {
	return slices.ContainsFunc(g.Allow, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Address refuses one to which nothing is sent; plain says that it would be sent without
// TLS.
func (g Guard) Address(a netip.Addr, plain bool) error {
	a = a.Unmap()
	switch {
	case a.Zone() == "" && g.allows(a):
		return nil
	case plain:
		return refused(a, "http is for networks in webhooks.allow only")
	case !public(a):
		return refused(a, "it is none of the public internet, and in no network of webhooks.allow")
	}
	return nil
}

func refused(a netip.Addr, why string) error {
	return fmt.Errorf("the address %s is not allowed: %s", a, why)
}

// public reports whether an address is one of the public internet.
func public(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" {
		return false
	}
	for _, e := range embedding {
		if e.of.Contains(a) {
			b := a.As16()
			return public(netip.AddrFrom4([4]byte(b[e.at : e.at+4])))
		}
	}
	if slices.ContainsFunc(closed, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return false
	}
	return a.Is4() || global.Contains(a)
}

// URL refuses, before anything is looked up, what Address would refuse in any case.
func (g Guard) URL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return job.Invalid("/webhook/url", "the URL of a webhook cannot be read", nil)
	}
	plain := u.Scheme == "http"
	if plain && len(g.Allow) == 0 {
		return job.Invalid("/webhook/url", "the URL of a webhook is https: http is for networks in webhooks.allow only", nil)
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil {
		if err := g.Address(a, plain); err != nil {
			return job.Invalid("/webhook/url", err.Error(), nil)
		}
	}
	return nil
}

// control is what a dialer asks about each address, after the name was resolved and
// before it connects.
func (g Guard) control(plain bool) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("the address %q is not allowed: it is none of IP", address)
		}
		return g.Address(a.Addr(), plain)
	}
}
