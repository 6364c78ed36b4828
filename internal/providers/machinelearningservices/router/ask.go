package router

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

// Azure's own defaults. Source: "Managed online deployment YAML schema" of Azure
// Machine Learning.
const (
	defaultWait    = 500 * time.Millisecond
	defaultTimeout = 5 * time.Second
)

// The instances that are tried for one request when connections to them can't be
// made.
const attempts = 3

var (
	errTimeout = errors.New("the instance took longer than the deployment lets it")
	errUpload  = errors.New("the client took too long to send the request")
)

// ask is one request to a deployment.
type ask struct {
	r    *Router
	c    *gate.Call
	ep   *Endpoint
	dep  *Deployment
	pool *pool
	copy *Deployment // gets a copy; nil: none

	body    body
	inst    *instance // that has the request; nil before
	entered bool      // the pool counts the request
	cancel  context.CancelCauseFunc
	clock   clock
	res     *http.Response

	st              *state       // of the endpoint
	heldIn, heldOut atomic.Int64 // how long bodies were held back, ns

	began        time.Time
	queued, took time.Duration
	tell         bool // the refusal is worth keeping
	counted      bool
	done         sync.Once // what ends the instance's part
	said         string    // the outcome, for explanations
}

// Outcome is what was answered, as explanations show it.
func (a *ask) Outcome() string { return a.said }

// score passes a request on to one of the endpoint's deployments.
func (r *Router) score(c *gate.Call) (any, error) {
	a := &ask{r: r, c: c, ep: endpoint(c), began: time.Now()}
	c.State = a
	out, err := a.run()
	if err != nil {
		return nil, a.fail(err)
	}
	return out, nil
}

func (a *ask) run() (any, error) {
	if err := a.choose(); err != nil {
		return nil, err
	}
	if a.pool.pending.Load() >= a.most() {
		return nil, a.tooMany("as many requests are pending as the deployment takes: twice max_concurrent_requests_per_instance for each of its instances")
	}
	if err := a.read(); err != nil {
		return nil, err
	}
	a.hold(a.c.Context, len(a.body.whole), &a.heldIn)
	if err := a.enter(); err != nil {
		return nil, err
	}
	if a.copy != nil && a.body.rest == nil {
		a.r.mirror.send(a, a.body.whole)
	}
	if err := a.send(); err != nil {
		return nil, err
	}
	return a.answer()
}

// choose finds the deployment: the one that the request names, or the one whose
// turn it is.
func (a *ask) choose() error {
	a.st = a.r.state(a.ep)
	st := a.st
	if a.r.cfg.AzureLike && !st.rate.take(a.r.cfg.Now(), mostRequests) {
		e := apierr.New(apierr.TooManyRequests, codeRate, "The endpoint '%s' got more than %d requests in a second.", a.ep.Name, mostRequests)
		e.RetryAfter = time.Second
		return e
	}
	now := st.of(a.ep)
	if names := a.c.Request.Header.Values(headerDeployment); len(names) > 0 {
		if a.dep = a.ep.deployment(names[0]); a.dep == nil {
			a.hop("deployment", clip(names[0]), "the endpoint has no deployment of the name that the header azureml-model-deployment gives", "az ml online-deployment list --endpoint-name "+a.ep.Name+where(a.ep))
			return apierr.New(apierr.NotFound, codeNone, "The endpoint '%s' has no deployment '%s'.", a.ep.Name, clip(names[0]))
		}
	} else if a.dep = st.next(now); a.dep == nil {
		a.hop("traffic", "", "no deployment of the endpoint has traffic", "az ml online-endpoint update --name "+a.ep.Name+where(a.ep)+` --traffic "DEPLOYMENT=100"`)
		return apierr.New(apierr.NotFound, codeNone, "The endpoint '%s' has no deployment with traffic.", a.ep.Name)
	} else {
		a.copy = st.copied(now, a.dep)
	}
	a.pool = a.r.pools.take(a.dep.UID)
	web.EventFrom(a.c.Context).Set("deployment", a.dep.Name)
	return nil
}

func (a *ask) hop(step, received, found, fix string) {
	trace.Add(a.c.Context, trace.Hop{Step: step, Subject: a.ep.ID.String(), Received: received, Found: found, Fix: fix})
}

// each is how many requests an instance takes at once.
func (d *Deployment) each() int { return max(1, d.MaxConcurrent) }

func (d *Deployment) wait() time.Duration {
	if d.QueueWait > 0 {
		return d.QueueWait
	}
	return defaultWait
}

func (d *Deployment) timeout() time.Duration {
	if d.Timeout > 0 {
		return d.Timeout
	}
	return defaultTimeout
}

// most is how many requests may be pending.
func (a *ask) most() int64 {
	return int64(2 * a.dep.each() * max(1, a.dep.Instances))
}

// tooMany refuses what is more than the deployment takes.
func (a *ask) tooMany(why string) error {
	a.tell = a.pool.tells(a.r.cfg.Now())
	a.hop("capacity", "", why+" ("+strconv.Itoa(a.dep.each())+" × "+strconv.Itoa(a.dep.Instances)+")",
		"az ml online-deployment update --name "+a.dep.Name+" --endpoint-name "+a.ep.Name+where(a.ep)+" --set instance_count="+strconv.Itoa(2*max(1, a.dep.Instances)))
	e := apierr.New(apierr.TooManyRequests, codePending, "The deployment '%s' has more requests than it can handle: %s.", a.dep.Name, why)
	e.RetryAfter = time.Second
	return e
}

// fail ends a request that is answered with a refusal, and gives the refusal.
func (a *ask) fail(err error) error {
	e := a.word(err)
	_, undialled := errors.AsType[*dialError](err)
	a.end(!undialled)
	a.count(statusOf(e))
	return e
}

// word puts what went wrong into a refusal.
func (a *ask) word(err error) *apierr.Error {
	start, starting := errors.AsType[*startError](err)
	if e, ok := errors.AsType[*apierr.Error](err); ok && !starting {
		return e
	}
	if errors.Is(err, errUpload) { // net/http takes it for one who went away
		return apierr.New(apierr.BadRequest, codeSlow, "The request's body did not come in time.")
	}
	if a.c.Context.Err() != nil {
		return apierr.New(apierr.BadRequest, codeClosed, "The client went away before the answer began.")
	}
	logs := "az ml online-deployment get-logs --name " + a.dep.Name + " --endpoint-name " + a.ep.Name + where(a.ep)
	e, found := apierr.New(apierr.Unavailable, codeGone, "An instance of the deployment '%s' ended, or its connection, before it had answered.", a.dep.Name), ""
	switch {
	case errors.Is(err, errTimeout):
		e = apierr.New(apierr.Unavailable, codeTimeout, "The deployment '%s' did not answer within the %d ms that its request_timeout_ms gives it.", a.dep.Name, a.dep.timeout().Milliseconds())
		found, logs = "the instance took longer than request_timeout_ms", logs+"; or: az ml online-deployment update --set request_settings.request_timeout_ms=MILLISECONDS"
	case starting && errors.Is(start.after, errWaited):
		return apierr.From(a.tooMany("it was started, and no instance became free within the " + strconv.FormatInt(a.dep.timeout().Milliseconds(), 10) + " ms of request_timeout_ms"))
	case starting:
		if e, found = a.startWord(start); start.zero && start.after != nil {
			logs += "; or: az ml online-deployment update --set scale_settings.min_instances=1"
		}
	case errors.Is(err, errNoInstances):
		e = apierr.New(apierr.Unavailable, codeUnready, "The deployment '%s' has no instance that is ready.", a.dep.Name)
		found = "no instance of the deployment is ready: its container ends or fails its readiness probe, or it has none yet"
	case errors.Is(err, errWaited):
		return apierr.From(a.tooMany("no instance became free within the " + strconv.FormatInt(a.dep.wait().Milliseconds(), 10) + " ms of max_queue_wait_ms"))
	default:
		found = "the instance ended or cut the connection: " + plain(err)
		if _, ok := errors.AsType[*dialError](err); ok {
			e.Message = "No instance of the deployment '" + a.dep.Name + "' could be connected to."
		}
	}
	a.hop("instance", "", found, logs)
	return e.WithCause(err)
}

// plain is an error without the addresses that are nobody's business.
func plain(err error) string {
	for e := err; e != nil; e = errors.Unwrap(e) {
		err = e
	}
	return clip(err.Error())
}

// end ends the instance's part: another request may have it.
func (a *ask) end(reached bool) {
	a.done.Do(func() {
		a.clock.stop()
		if a.res != nil {
			_ = a.res.Body.Close()
		}
		if a.cancel != nil {
			a.cancel(nil)
		}
		if a.inst != nil {
			a.pool.release(a.inst, reached)
		}
		if a.entered {
			a.pool.pending.Add(-1)
			a.st.active.Add(-1)
		}
		if a.pool != nil {
			a.pool.let()
		}
		a.r.ahead.Add(-a.body.reserved)
		if u := a.body.rest; u != nil {
			u.from.Stop()
		}
	})
}

// count measures the request once.
func (a *ask) count(status int) {
	if a.dep == nil || a.counted {
		return
	}
	a.counted = true
	a.r.meter.count(a, status)
	a.record(status)
	ev := web.EventFrom(a.c.Context)
	if a.inst != nil {
		ev.Set("instance", a.inst.ID)
		ev.Set("queue_ms", float64(a.queued.Microseconds())/1000)
		ev.Set("model_ms", float64(a.took.Microseconds())/1000)
	}
}

// record tells of the request, where its deployment wants that.
func (a *ask) record(status int) {
	if !a.dep.Insights || a.r.cfg.Scored == nil {
		return
	}
	req := a.c.Request
	s := Scored{
		Workspace: a.ep.Workspace, Endpoint: a.ep.Name, Deployment: a.dep.Name, RequestID: web.RequestID(a.c.Context),
		Time: a.began, Duration: time.Since(a.began), Method: req.Method, Host: hostOf(req), Path: req.URL.EscapedPath(), Status: status,
	}
	if a.inst != nil {
		s.Instance = a.inst.ID
	}
	if a.res != nil {
		s.ModelStatus = a.res.StatusCode
	}
	a.r.cfg.Scored(s)
}

// clock ends a request whose instance, or client, takes too long.
type clock struct {
	mu    sync.Mutex // guards the rest
	timer *time.Timer
	until time.Time // when it ends the request; zero while it is paused
	over  bool
}

// start runs late after d, unless it is stopped or set again.
func (k *clock) start(d time.Duration, late func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.timer, k.until = time.AfterFunc(d, late), time.Now().Add(d)
}

// again begins to count anew.
func (k *clock) again(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.set(time.Now().Add(d))
}

// anew is again, where it counts.
func (k *clock) anew(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.until.IsZero() {
		k.set(time.Now().Add(d))
	}
}

// extend gives d more, where it counts.
func (k *clock) extend(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.until.IsZero() {
		k.set(k.until.Add(d))
	}
}

// set is locked.
func (k *clock) set(until time.Time) {
	if !k.over && k.timer != nil {
		k.until = until
		k.timer.Reset(time.Until(until))
	}
}

// pause stops counting until again.
func (k *clock) pause() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.until = (time.Time{}); k.timer != nil {
		k.timer.Stop()
	}
}

func (k *clock) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.until = time.Time{}
	if k.over = true; k.timer != nil {
		k.timer.Stop()
	}
}
