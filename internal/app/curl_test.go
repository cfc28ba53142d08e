package app_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/job"
)

// curled is what curl prints of a recipient's stream.
type curled struct {
	x     *trial
	token string
	lines *bufio.Scanner
	ack   string
	shown map[string]int // by body
	last  string         // id of the last event
	stop  func()
}

// curl connects with curl -N; last is the id of the last event of an earlier connection.
func (x *trial) curl(who job.Recipient, last string) *curled {
	x.t.Helper()
	tok, err := x.svc.MintToken(context.Background(), api.MintToken{Recipient: &who})
	x.must(err)
	c := &curled{x: x, token: tok.Token, shown: map[string]int{}}
	cmd := exec.Command("curl", "-sN", "--max-time", "60", "-H", "Authorization: Bearer "+tok.Token, "-H", "Last-Event-ID: "+last,
		x.srv.API+"/v1/stream?client=curl-"+who.String()+"&have=")
	out, err := cmd.StdoutPipe()
	x.must(err)
	x.must(cmd.Start())
	c.stop = func() { cmd.Process.Kill(); cmd.Wait() }
	x.t.Cleanup(c.stop)
	c.lines = bufio.NewScanner(out)
	c.until(func() bool { return c.ack != "" })
	return c
}

// until reads lines until something is so.
func (c *curled) until(ok func() bool) {
	c.x.t.Helper()
	for !ok() {
		if !c.lines.Scan() {
			c.x.t.Fatalf("curl ended: %v", c.lines.Err())
		}
		name, value, _ := strings.Cut(c.lines.Text(), ": ")
		switch name {
		case "id":
			c.last = value
		case "data":
			var f struct{ Type, Ack, Body string }
			c.x.must(json.Unmarshal([]byte(value), &f))
			switch f.Type {
			case "hello":
				c.ack = f.Ack
			case "message":
				c.shown[f.Body]++
			}
		}
	}
}

// acknowledge posts ids with curl.
func (c *curled) acknowledge(ids ...string) {
	c.x.t.Helper()
	base, err := url.Parse(c.x.srv.API + "/v1/stream")
	c.x.must(err)
	to, err := base.Parse(c.ack)
	c.x.must(err)
	body, err := json.Marshal(map[string][]string{"ids": ids})
	c.x.must(err)
	out, err := exec.Command("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Authorization: Bearer "+c.token, "-d", string(body), to.String()).Output()
	if err != nil || string(out) != "204" {
		c.x.t.Errorf("acknowledging with curl: %s, %v", out, err)
	}
}

// TestCurl reads messages with curl -N: online, after a login, and after a connection that
// was lost before anything was acknowledged.
func TestCurl(t *testing.T) {
	t.Parallel()
	x := newTrial(t)
	ctx := context.Background()
	x.cli(nil, "account", "create", "plain")
	followers := []job.Recipient{7, 7_000_007}
	_, err := x.svc.AddFollowers(ctx, "plain", followers)
	x.must(err)
	online := x.curl(followers[0], "-")
	var jobs []job.ID
	for i := range 3 {
		j, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "plain", Audience: api.AudienceFollowers, Body: strconv.Itoa(i)})
		x.must(err)
		jobs = append(jobs, j.Job)
	}
	online.until(func() bool { return len(online.shown) == 3 })
	for _, id := range jobs {
		_, err := x.svc.WaitJob(ctx, id, api.WaitJob{For: job.Sent})
		x.must(err)
	}
	online.acknowledge(jobs[0].String())
	online.stop() // the other two it says when it comes again
	again := x.curl(followers[0], online.last)
	late := x.curl(followers[1], "-")
	late.until(func() bool { return len(late.shown) == 3 })
	late.acknowledge(jobs[0].String(), jobs[1].String(), jobs[2].String())
	for _, id := range jobs {
		_, err := x.svc.WaitJob(ctx, id, api.WaitJob{For: job.Completed, Timeout: 20 * time.Second})
		x.must(err)
		rec, err := x.svc.ReconcileJob(ctx, id)
		x.must(err)
		if !rec.Conserved || rec.Delivered != 2 {
			t.Errorf("job %s: %+v", id, rec)
		}
	}
	again.until(func() bool { return again.last == "-" }) // all is settled
	for _, c := range []*curled{online, late} {
		for body, n := range c.shown {
			if n != 1 {
				t.Errorf("%s was shown %d times", body, n)
			}
		}
	}
	if len(again.shown) != 0 {
		t.Errorf("shown again: %v", again.shown)
	}
}
