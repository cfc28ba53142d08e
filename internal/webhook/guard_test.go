package webhook

import (
	"net/netip"
	"testing"

	"crier/job"
)

// TestAddresses goes through addresses of every kind that is not to be reached from here,
// and their neighbours that are.
func TestAddresses(t *testing.T) {
	var none Guard
	for _, text := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255",
		"192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
		"64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8", "100::1",
		"2002:7f00:1::", "2002:a00:1::1", "2002:a9fe:a9fe::", "2002:c0a8:101::", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "2001:1ff::1", "3fff::1",
		"fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "2606:4700::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "5f00::1", "4000::1",
	} {
		if err := none.Address(netip.MustParseAddr(text), false); err == nil {
			t.Errorf("%s is allowed", text)
		}
	}
	public := []string{"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "126.255.255.255", "128.0.0.1", "172.15.255.255", "172.32.0.1", "192.167.255.255",
		"192.169.0.1", "198.17.255.255", "198.20.0.1", "223.255.255.255", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "2001:4860:4860::8888", "2606:4700::1111", "2a00::1"}
	for _, text := range public {
		if err := none.Address(netip.MustParseAddr(text), false); err != nil {
			t.Error(err)
		}
		if err := none.Address(netip.MustParseAddr(text), true); err == nil {
			t.Errorf("%s is allowed without TLS", text)
		}
	}
	some := Guard{Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32"), netip.MustParsePrefix("8.8.0.0/16")}}
	for text, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "10.2.0.1": false, "fd00:1::5": true, "fd00:2::5": false, "127.0.0.1": false, "8.8.8.8": true, "fd00:1::5%eth0": false} {
		for _, plain := range []bool{false, true} {
			if err := some.Address(netip.MustParseAddr(text), plain); (err == nil) != want {
				t.Errorf("%s, plain %v: %v", text, plain, err)
			}
		}
	}
	if err := some.Address(netip.Addr{}, false); err == nil {
		t.Error("no address is allowed")
	}
	for _, address := range []string{"", "localhost:80", "127.0.0.1", "1.1.1.1:x", "@"} {
		if err := some.control(false)("tcp", address, nil); err == nil {
			t.Errorf("the dialer may connect to %q", address)
		}
	}
}

func TestURLs(t *testing.T) {
	var none Guard
	some := Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for text, want := range map[string][2]bool{ // by none, by some
		"https://example.com/h": {true, true}, "http://example.com/h": {false, true}, "https://1.1.1.1/": {true, true}, "http://1.1.1.1/": {false, false},
		"http://127.0.0.1:80/": {false, true}, "https://127.0.0.1:80/": {false, true}, "https://[::1]/": {false, false}, "https://10.0.0.1": {false, false}, "https://[::ffff:10.0.0.1]/": {false, false}, "https://%": {false, false},
	} {
		for i, g := range []Guard{none, some} {
			if err := g.URL(text); (err == nil) != want[i] || err != nil && job.CodeOf(err) != job.CodeInvalid {
				t.Errorf("%s by guard %d: %v", text, i, err)
			}
		}
	}
}
