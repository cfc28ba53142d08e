package job_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"crier/job"
)

func TestWebhook(t *testing.T) {
	var none *job.Webhook
	if err := none.Validate(); err != nil {
		t.Errorf("no webhook: %v", err)
	}
	for url, host := range map[string]string{"https://Example.com/a?b=c": "example.com", "http://10.0.0.1:80": "10.0.0.1", "https://[::1]:8443/": "::1", "HTTPS://x": "x"} {
		w := &job.Webhook{URL: url}
		if err := w.Validate(); err != nil || w.Host() != host {
			t.Errorf("%s: host %s, %v", url, w.Host(), err)
		}
	}
	for _, url := range []string{"", "example.com", "/x", "ftp://example.com", "https:", "https:///x", "https://:443/", "https:example.com", "https://u@example.com", "https://u:p@example.com/", "https://example.com/#x",
		"https://exa mple.com", "https://example.com/\n", "https://[fe80::1%25eth0]/", "https://" + strings.Repeat("a", 254), "https://example.com/" + strings.Repeat("a", job.MaxWebhookURL), "https://[::1"} {
		if err := (&job.Webhook{URL: url}).Validate(); job.CodeOf(err) != job.CodeInvalid || !strings.HasPrefix(fieldOf(err), "/webhook/url") {
			t.Errorf("%.60q: %v", url, err)
		}
	}
	for _, on := range [][]string{{"sent", "sent"}, {"done"}, {""}} {
		if err := (&job.Webhook{URL: "https://x", On: on}).Validate(); job.CodeOf(err) != job.CodeInvalid || fieldOf(err) != "/webhook/on" {
			t.Errorf("%v: %v", on, err)
		}
	}
	if got := (job.Webhook{}).Wants(); !slices.Contains(got, "completed") || !slices.Contains(got, "cancelled") || slices.Contains(got, "sent") || slices.Contains(got, "submitted") {
		t.Errorf("by default it is told of %v", got)
	}
	if got := (job.Webhook{On: []string{"sent"}}).Wants(); !slices.Equal(got, []string{"sent"}) {
		t.Errorf("it is told of %v", got)
	}
}

// fieldOf is the field that an error names.
func fieldOf(err error) string {
	var e *job.Error
	if errors.As(err, &e) {
		return e.Field
	}
	return ""
}
