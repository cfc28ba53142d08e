package app_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"crier/api"
	"crier/internal/proc"
	"crier/job"
)

// foreignClient speaks the protocol with npm's ws and nothing of ours: it says what
// it has, acknowledges, drops repeats, forgets on settled, and at the end of its
// input tells how often it showed each message.
const foreignClient = `
const WebSocket = require('ws');
const [url, ...tokens] = process.argv.slice(2);
const shown = {}, all = [];
let open = 0;
function connect(index, token) {
  const have = new Set(), ws = new WebSocket(url, {headers: {Authorization: 'Bearer ' + token}});
  all.push(ws);
  ws.on('open', () => {
    ws.send(JSON.stringify({type: 'hello', client: 'foreign-' + index, have: [...have]}));
    if (++open === tokens.length) console.log(JSON.stringify({open}));
  });
  ws.on('message', data => {
    const f = JSON.parse(data);
    if (f.type === 'message') {
      if (!have.has(f.id)) { have.add(f.id); const k = index + ' ' + f.body; shown[k] = (shown[k] || 0) + 1; }
      ws.send(JSON.stringify({type: 'ack', ids: [f.id]}));
    } else if (f.type === 'settled') f.ids.forEach(id => have.delete(id));
  });
  ws.on('error', e => { console.error(String(e)); process.exit(1); });
}
tokens.forEach((t, i) => connect(i, t));
process.stdin.on('data', () => console.log(JSON.stringify({shown})));
process.stdin.on('end', () => { all.forEach(ws => ws.terminate()); process.exit(0); });
`

// foreignStream reads server-sent events with npm's eventsource, as a page in a browser
// would, and acknowledges; what it has the events' ids say. Each time it is asked for the
// count, one of its connections breaks.
const foreignStream = `
const {EventSource} = require('eventsource');
const [url, ...tokens] = process.argv.slice(2);
const shown = {}, all = [], cut = [];
let open = 0, cuts = 0;
async function breakable(index, input, init) {
  const r = await fetch(input, init), reader = r.body.getReader();
  const body = new ReadableStream({
    start(c) { cut[index] = () => { reader.cancel(); try { c.close(); } catch {} }; },
    async pull(c) { const {done, value} = await reader.read(); try { done ? c.close() : c.enqueue(value); } catch {} },
  });
  return {body, url: r.url, status: r.status, redirected: r.redirected, headers: r.headers};
}
function connect(index, token) {
  let ack;
  const source = new EventSource(url + '?client=stream-' + index + '&have=&token=' + encodeURIComponent(token),
    {fetch: (input, init) => breakable(index, input, init)});
  all.push(source);
  let known = false;
  source.addEventListener('hello', e => {
    ack = new URL(JSON.parse(e.data).ack, url);
    if (!known && (known = true) && ++open === tokens.length) console.log(JSON.stringify({open}));
  });
  source.onmessage = e => {
    const f = JSON.parse(e.data), k = index + ' ' + f.body;
    shown[k] = (shown[k] || 0) + 1;
    if (index % 2) fetch(ack, {method: 'POST', headers: {Authorization: 'Bearer ' + token}, body: JSON.stringify({ids: [f.id]})});
    else cut[index](); // it says what it has when it comes again
  };
}
tokens.forEach((t, i) => connect(i, t));
process.on('unhandledRejection', () => {});
process.stdin.on('data', () => { cut[cuts++ % cut.length](); console.log(JSON.stringify({shown})); });
process.stdin.on('end', () => { all.forEach(s => s.close()); process.exit(0); });
`

// TestForeignClient connects clients that were not written here, from npm: some are
// online when a job is sent, some log in afterwards.
func TestForeignClient(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pkg, script string
		url         func(*trial) string
	}{
		{"ws@8", foreignClient, func(x *trial) string { return x.srv.Gateway }},
		{"eventsource@3", foreignStream, func(x *trial) string { return x.srv.API + "/v1/stream" }},
	} {
		t.Run(c.pkg, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			install := exec.Command("npm", "install", "--no-save", "--no-audit", "--no-fund", "--prefix", dir, c.pkg)
			if out, err := install.CombinedOutput(); err != nil {
				t.Fatalf("npm install %s: %v\n%s", c.pkg, err, out)
			}
			script := filepath.Join(dir, "client.cjs")
			if err := os.WriteFile(script, []byte(c.script), 0o600); err != nil {
				t.Fatal(err)
			}
			x := newTrial(t)
			tryForeign(t, x, func(who []job.Recipient) *proc.Child { return x.foreign(script, c.url(x), who) })
		})
	}
}

// tryForeign sends jobs to clients that are online and that log in later.
func tryForeign(t *testing.T, x *trial, start func([]job.Recipient) *proc.Child) {
	ctx := context.Background()
	x.cli(nil, "account", "create", "foreign")
	var followers []job.Recipient
	for i := range job.Recipient(40) {
		followers = append(followers, i*1_000_003)
	}
	_, err := x.svc.AddFollowers(ctx, "foreign", followers)
	x.must(err)
	online := start(followers[:20])
	var jobs []api.Job
	for i := range 5 {
		j, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "foreign", Audience: api.AudienceFollowers, Body: strconv.Itoa(i)})
		x.must(err)
		j, err = x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent})
		x.must(err)
		jobs = append(jobs, j)
	}
	x.shows(online, 20*5)
	late := start(followers[20:])
	x.shows(late, 20*5)
	x.shows(online, 20*5)
	for _, j := range jobs {
		j, err := x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Completed, Timeout: 20 * time.Second})
		x.must(err)
		rec, err := x.svc.ReconcileJob(ctx, j.Job)
		x.must(err)
		if j.State != job.Completed || !rec.Conserved || rec.Delivered != 40 {
			t.Errorf("job %s is %s: %+v", j.Job, j.State, rec)
		}
	}
	if err := x.srv.Stop(); err != nil {
		t.Error(err)
	}
}

// foreign starts a process of foreign clients and waits until they are connected.
func (x *trial) foreign(script, url string, who []job.Recipient) *proc.Child {
	args := []string{script, url}
	for _, r := range who {
		tok, err := x.svc.MintToken(context.Background(), api.MintToken{Recipient: &r})
		x.must(err)
		args = append(args, tok.Token)
	}
	c, err := proc.StartChild("node", args...)
	x.must(err)
	x.t.Cleanup(func() { c.Stop() })
	var ready struct{ Open int }
	x.must(c.Hear(&ready))
	return c
}

// shows waits until the clients have shown a number of messages, each once.
func (x *trial) shows(c *proc.Child, want int) {
	x.t.Helper()
	limit := time.Now().Add(20 * time.Second)
	for {
		var rep struct{ Shown map[string]int }
		x.must(c.Ask(json.RawMessage(`"?"`), &rep))
		for k, n := range rep.Shown {
			if n != 1 {
				x.t.Fatalf("%s was shown %d times", k, n)
			}
		}
		if len(rep.Shown) == want {
			return
		}
		if time.Now().After(limit) || len(rep.Shown) > want {
			x.t.Fatalf("%d messages shown, want %d", len(rep.Shown), want)
		}
		<-time.After(50 * time.Millisecond)
	}
}
