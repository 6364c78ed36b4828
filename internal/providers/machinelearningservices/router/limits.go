package router

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"lazurite.dev/internal/apierr"
)

// Azure's limits of an endpoint, over all of its deployments. Source: "Manage
// quotas" of Azure Machine Learning, "Azure Machine Learning online endpoints".
const (
	mostRequests = 500       // a second
	mostAtOnce   = 500       // in progress, and waiting
	mostBytes    = 5_000_000 // a second, in bodies of requests and answers together
)

// The trailers of what was held back. Source: "Troubleshoot online endpoints",
// bandwidth limit issues.
const (
	trailerRequest  = http.TrailerPrefix + "Ms-Azureml-Bandwidth-Request-Delay-Ms"
	trailerResponse = http.TrailerPrefix + "Ms-Azureml-Bandwidth-Response-Delay-Ms"
)

// bandwidth holds back what is more than so many bytes a second; a second's
// worth may come at once after a pause.
type bandwidth struct {
	mu   sync.Mutex // guards free
	free time.Time  // when all that came has had its time
}

// take is how long n more bytes are held back.
func (b *bandwidth) take(now time.Time, n int) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if least := now.Add(-time.Second); b.free.Before(least) {
		b.free = least
	}
	b.free = b.free.Add(time.Duration(n) * time.Second / mostBytes)
	return max(0, b.free.Sub(now))
}

// hold waits as long as n bytes are held back, where that is done, and adds it
// to sum.
func (a *ask) hold(ctx context.Context, n int, sum *atomic.Int64) {
	rest(ctx, a.held(n, sum))
}

// holdUpload is hold for n bytes of a body that comes while it is passed on: the
// time that it is held back is not the client's, nor that of the upload.
func (a *ask) holdUpload(u *upload, n int) {
	d := a.held(n, &a.heldIn)
	if d <= 0 {
		return
	}
	u.from.Pause()
	a.clock.extend(d)
	rest(a.c.Context, d)
}

// held is how long n bytes are held back, which is added to sum.
func (a *ask) held(n int, sum *atomic.Int64) time.Duration {
	if !a.r.cfg.AzureLike || n == 0 {
		return 0
	}
	d := a.st.width.take(a.r.cfg.Now(), n)
	sum.Add(int64(d))
	return d
}

// rest waits.
func rest(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// heldBack reports whether something of the request or of its answer was.
func (a *ask) heldBack() bool { return a.heldIn.Load()+a.heldOut.Load() > 0 }

// tellHeld puts into the trailers how long was held back.
func (a *ask) tellHeld(h http.Header) {
	if !a.heldBack() {
		return
	}
	in, out := time.Duration(a.heldIn.Load()), time.Duration(a.heldOut.Load())
	h[trailerRequest] = []string{strconv.FormatInt(in.Milliseconds(), 10)}
	h[trailerResponse] = []string{strconv.FormatInt(out.Milliseconds(), 10)}
}

// enter counts the request, which is pending from now on, and refuses what is
// more than deployment or endpoint take.
func (a *ask) enter() error {
	a.entered = true
	pending, active := a.pool.pending.Add(1), a.st.active.Add(1)
	if pending > a.most() {
		return a.tooMany("as many requests are pending as the deployment takes: twice max_concurrent_requests_per_instance for each of its instances")
	}
	if a.r.cfg.AzureLike && active > mostAtOnce {
		e := apierr.New(apierr.TooManyRequests, codeRate, "The endpoint '%s' has more than %d requests at once.", a.ep.Name, mostAtOnce)
		e.RetryAfter = time.Second
		return e
	}
	a.pool.served.Add(1)
	return nil
}
