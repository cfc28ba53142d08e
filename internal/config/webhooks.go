package config

import (
	"fmt"
	"net/netip"

	"crier/job"
)

// Webhooks are about what is sent to receivers outside. The processes of the roles api and
// relay have the same.
type Webhooks struct {
	// Allow are networks, such as 10.1.0.0/16, that receivers may be in besides the public
	// internet; there they may do without TLS. Default: none, so that nobody who may submit
	// jobs can make this process reach what is near it.
	Allow []string `koanf:"allow"`
}

var webhookSettings = []setting{
	{"webhooks.allow", "webhooks-allow", "networks, such as 10.1.0.0/16, that webhooks may be in besides the public internet, also without TLS, separated by commas (default: none)"},
}

// Networks are the networks.
func (w Webhooks) Networks() (all []netip.Prefix, err error) {
	for _, text := range w.Allow {
		p, err := netip.ParsePrefix(text)
		if err != nil || p != p.Masked() || p.Addr().Is4In6() {
			return nil, job.Invalid("webhooks.allow", fmt.Sprintf("webhooks.allow: %q is no network such as 10.1.0.0/16", text), nil)
		}
		all = append(all, p)
	}
	return all, nil
}
