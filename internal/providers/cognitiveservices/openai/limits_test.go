package openai_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/providers/cognitiveservices/openai"
	"lazurite.dev/internal/trace"
)

// clock is a time that tests move.
type clock struct{ at time.Time }

func (c *clock) now() time.Time        { return c.at }
func (c *clock) pass(d time.Duration)  { c.at = c.at.Add(d) }
func newClock() *clock                 { return &clock{time.Unix(1e9, 0)} }
func limits(c *clock) *openai.Quotas   { return openai.NewQuotas(6000, 1e6, c.now) }
func minute(n int, of int) (d float64) { return float64(n) / float64(of) }

func TestLimits_AFullMinuteAtOnceAndThenEvenly(t *testing.T) {
	c := newClock()
	q := limits(c)
	for i := range 60 {
		if _, wait := q.Admit("a", 100); wait != 0 {
			t.Fatalf("request %d was refused", i)
		}
	}
	_, wait := q.Admit("a", 100)
	if wait <= 0 || wait > 3*time.Second {
		t.Fatalf("to wait %v", wait)
	}
	c.pass(wait)
	if _, again := q.Admit("a", 100); again != 0 {
		t.Errorf("after the wait that was told: %v more", again)
	}
	c.pass(2 * time.Minute)
	served := 0
	for range 100 {
		if _, wait := q.Admit("a", 100); wait == 0 {
			served++
		}
	}
	if served != 60 {
		t.Errorf("%d of 60 after a pause", served)
	}
}

// TestLimits_TheWaitIsNoLongerThanNeeded: a moment before it ends the request is
// refused, at its end it is served, with whoever else was refused.
func TestLimits_TheWaitIsNoLongerThanNeeded(t *testing.T) {
	for others := range 4 {
		for _, used := range []time.Duration{0, 7 * time.Second, 20 * time.Second} {
			c := newClock()
			q := limits(c)
			for range 60 {
				q.Admit("a", 100)
			}
			for i := range others {
				q.Admit(fmt.Sprint(i), 100)
			}
			c.pass(used)
			refused := time.Duration(0)
			for refused == 0 {
				_, refused = q.Admit("a", 700)
			}
			c.pass(refused - 2*time.Millisecond)
			if _, wait := q.Admit("a", 700); wait == 0 && refused > 2*time.Millisecond {
				t.Errorf("%d others, after %v: it was there before the %v that were told", others, used, refused)
			}
			c.pass(2 * time.Millisecond)
			if _, wait := q.Admit("a", 700); wait != 0 {
				t.Errorf("%d others, after %v: %v were told, and then %v", others, used, refused, wait)
			}
		}
	}
}

func TestLimits_TrueUsageReplacesTheEstimate(t *testing.T) {
	c := newClock()
	q := limits(c)
	settle, _ := q.Admit("a", 5000)
	if _, wait := q.Admit("a", 5000); wait == 0 {
		t.Fatal("more than the capacity")
	}
	settle(10)
	c.pass(time.Second)
	if _, wait := q.Admit("a", 5000); wait != 0 {
		t.Errorf("what was not used is not there: %v", wait)
	}
	q = limits(c)
	settle, _ = q.Admit("a", 10)
	settle(12000)
	if _, wait := q.Admit("a", 10); wait < time.Minute {
		t.Errorf("a debt of a minute is paid in %v", wait)
	}
}

// TestLimits_ADebtIsTheDebtors has one principal owe far more than a minute gives: it
// pays as long as it owes, at most a minute's worth, and the others have their part.
func TestLimits_ADebtIsTheDebtors(t *testing.T) {
	c := newClock()
	q := limits(c)
	settle, wait := q.Admit("debtor", 100)
	if wait != 0 {
		t.Fatal("refused at once")
	}
	settle(600_000)
	served := map[string]int{}
	for range 60 {
		for _, who := range []string{"debtor", "other"} {
			if _, wait := q.Admit(who, 100); wait == 0 {
				served[who]++
			} else if wait > time.Minute {
				t.Fatalf("%s is told to wait %v", who, wait)
			}
		}
		c.pass(time.Second)
	}
	if served["debtor"] != 0 || served["other"] < 25 {
		t.Errorf("in the first minute: %v", served)
	}
	// Silence does not make it another's.
	c.pass(30 * time.Second)
	if _, wait := q.Admit("debtor", 100); wait == 0 {
		t.Error("the debt is gone before it was paid")
	}
	c.pass(10 * time.Minute)
	if _, wait := q.Admit("debtor", 100); wait != 0 {
		t.Errorf("the debt lasts: %v", wait)
	}
	served = map[string]int{}
	for range 600 {
		for _, who := range []string{"other", "third"} {
			if _, wait := q.Admit(who, 100); wait == 0 {
				served[who]++
			}
		}
		c.pass(time.Second)
	}
	if got := served["other"] + served["third"]; got < 580 {
		t.Errorf("ten minutes later %v of 600 are served", served)
	}
}

func TestLimits_ARequestLargerThanTheCapacityIsServedOnce(t *testing.T) {
	c := newClock()
	q := limits(c)
	if _, wait := q.Admit("a", 20000); wait != 0 {
		t.Fatal("never served")
	}
	if _, wait := q.Admit("a", 1); wait == 0 {
		t.Error("it owes nothing")
	}
}

// TestLimits_ANoisyCallerStarvesNobody has one that asks 50 times a second for
// all it can get, and others that ask once a second for a sixth of the capacity.
func TestLimits_ANoisyCallerStarvesNobody(t *testing.T) {
	for _, quiet := range []int{1, 3} {
		t.Run(strconv.Itoa(quiet), func(t *testing.T) {
			c := newClock()
			q := limits(c)
			for range 60 {
				q.Admit("noisy", 100)
			}
			got := map[string]int{}
			asked := 0
			for range 180 {
				for range 50 {
					c.pass(20 * time.Millisecond)
					if _, wait := q.Admit("noisy", 100); wait == 0 {
						got["noisy"] += 100
					}
				}
				asked += 15
				for i := range quiet {
					who := fmt.Sprint("quiet", i)
					if _, wait := q.Admit(who, 15); wait == 0 {
						got[who] += 15
					}
				}
			}
			for i := range quiet {
				if who := fmt.Sprint("quiet", i); minute(got[who], asked) < 0.9 {
					t.Errorf("%s got %d of %d, %v", who, got[who], asked, got)
				}
			}
			total := 0
			for _, n := range got {
				total += n
			}
			if most := 3*6000 + 100; total > most || total < most*8/10 {
				t.Errorf("%d tokens in three minutes, capacity %d: %v", total, most, got)
			}
		})
	}
}

func TestLimits_EqualCallersGetEqualParts(t *testing.T) {
	c := newClock()
	q := limits(c)
	got := map[string]int{}
	r := rand.New(rand.NewPCG(1, 2))
	for range 5 * 60 * 20 {
		c.pass(50 * time.Millisecond)
		for _, i := range r.Perm(4) {
			who := fmt.Sprint(i)
			for range 1 + 5*i { // some ask more often
				if _, wait := q.Admit(who, 50); wait == 0 {
					got[who] += 50
				}
			}
		}
	}
	for who, n := range got {
		if share := minute(n, 6*6000); share < 0.15 || share > 0.4 {
			t.Errorf("%s got %d: %v", who, n, got)
		}
	}
}

func TestLimits_RefusalHasTheServicesWords(t *testing.T) {
	w := newWorld(t)
	w.account("acc", "")
	w.deploy("acc", "dd", "gpt-4o-mini", "2024-07-18", 1, "")
	for range 6 {
		w.want(200, "", me, "POST", chat, hello)
	}
	w.recorded()
	a := w.want(429, "429", me, "POST", chat, hello)
	if got := a.Header.Get("Retry-After"); got != "16" { // 0.6 of a request are for newcomers first, of what comes in ten seconds half
		t.Errorf("Retry-After is %s", got)
	}
	if got, want := a.Text("error", "message"), "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded call rate limit of your current OpenAI S0 pricing tier. Please retry after "; !strings.HasPrefix(got, want) {
		t.Errorf("%s", got)
	}
	ms, err := strconv.Atoi(a.Header.Get("retry-after-ms"))
	seconds, err2 := strconv.Atoi(a.Header.Get("Retry-After"))
	if err != nil || err2 != nil || ms < 1 || (ms+999)/1000 != seconds || a.Header.Get("x-ratelimit-reset-requests") != strconv.Itoa(seconds) || a.Header.Get("policy-id") != "DeploymentRatelimit-Call" {
		t.Errorf("%v", a.Header)
	}
	saw := func(kept trace.Trace, expected, received string) {
		t.Helper()
		if !slices.ContainsFunc(kept.Hops, func(h trace.Hop) bool {
			return h.Step == "capacity" && h.Expected == expected && strings.HasPrefix(h.Received, received)
		}) {
			t.Errorf("recorded %+v", kept.Hops)
		}
	}
	kept := w.recorded()
	saw(kept, "6 requests a minute", "one request more")
	if !strings.Contains(fix(kept), "az cognitiveservices account deployment create --name acc --resource-group g --deployment-name dd --model-name gpt-4o-mini --model-version 2024-07-18 --model-format OpenAI --sku-name Standard --sku-capacity 2") {
		t.Errorf("recorded %+v", kept)
	}
	w.want(429, "429", me, "POST", chat, hello)
	if kept := w.recorded(); kept.ID != "" || len(kept.Hops) != 0 {
		t.Error("each refusal of a noisy caller is recorded")
	}
	w.mu.Lock()
	w.now = w.now.Add(2 * time.Minute)
	w.mu.Unlock()
	a = w.want(200, "", me, "POST", chat, `{"messages":[],"max_tokens":900}`)
	if got := a.Header.Get("x-ratelimit-remaining-tokens"); got != "92" {
		t.Errorf("%s left", got)
	}
	a = w.want(429, "429", me, "POST", chat, `{"messages":[],"max_tokens":1900}`)
	if !strings.Contains(a.Text("error", "message"), "exceeded token rate limit") || a.Header.Get("x-ratelimit-reset-tokens") == "" || a.Header.Get("policy-id") != "DeploymentRatelimit-Token" {
		t.Errorf("%v %s", a.Header, a.Raw)
	}
	saw(w.recorded(), "1000 tokens a minute", "a request of about 190")
	if got := w.metric("laz_openai_limited_total", "acc", "dd", "token"); got != 1 {
		t.Errorf("%v counted", got)
	}
}

func TestLimits_ReplicasDivideThem(t *testing.T) {
	w := newWorld(t, func(c *openai.Config) { c.Replicas = 3 })
	w.account("acc", "")
	w.deploy("acc", "dd", "gpt-4o-mini", "2024-07-18", 1, "")
	for range 2 {
		w.want(200, "", me, "POST", chat, hello)
	}
	w.want(429, "429", me, "POST", chat, hello)
}

func TestEstimate_PicturesCountByNumber(t *testing.T) {
	text := `{"messages":[{"role":"user","content":"` + strings.Repeat("word", 100) + `"}]}`
	if n := openai.Estimate([]byte(text), 50, 2); n < 200 || n > 220 {
		t.Errorf("%d tokens", n)
	}
	picture := `{"messages":[{"role":"user","content":[{"image_url":{"url":"data:image/png;base64,` + strings.Repeat("A", 1<<20) + `"}}]}]}`
	if n := openai.Estimate([]byte(picture), 0, 1); n < 765 || n > 800 {
		t.Errorf("%d tokens", n)
	}
	// What only looks like one is text, and counts as such.
	words := strings.Repeat("word ", 1<<14)
	for _, body := range []string{
		`{"messages":[{"role":"user","content":"data:image/png;base64,` + words + `"}]}`,
		`{"messages":[{"role":"user","content":[{"image_url":{"url":"data:image/` + words + `"}}]}]}`,
		`{"messages":["url","data:image/png;base64,` + words + `"]}`,
	} {
		if n := openai.Estimate([]byte(body), 0, 1); n < len(words)/4 {
			t.Errorf("%.60s: %d tokens", body, n)
		}
	}
	if n := openai.Estimate([]byte(`{"input":[{"content":[{"type":"input_image","image_url" : "data:image/png;base64,`+words+`"}]}]}`), 0, 1); n > 800 {
		t.Errorf("%d tokens", n)
	}
}
