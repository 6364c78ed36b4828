package serve

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/kube/webhook/mutate"
)

// The paths of the two mutations.
const (
	PathIdentity = "/mutate-v1-pod"
	PathTrust    = "/mutate-v1-pod-ca-bundle"
)

const (
	maxReview   = 8 << 20   // bytes; an object is at most 3 MiB for the API server
	maxRetained = 256 << 10 // bytes of a buffer that is kept for the next review
)

// Accounts finds service accounts.
type Accounts interface {
	// Account is what the service account says. Its error is the API server's.
	Account(ctx context.Context, namespace, name string) (mutate.Account, error)
}

// Bundles puts the certificates where the pods of a namespace can mount them.
type Bundles interface {
	Ensure(ctx context.Context, namespace string) error
}

// Handler answers reviews. Accounts and Identity serve PathIdentity, Bundles
// PathTrust; without Bundles there is no such path.
type Handler struct {
	Identity *mutate.Identity
	Accounts Accounts
	Bundles  Bundles
	Metric   *prometheus.HistogramVec // as NewMetric makes it
	Log      *slog.Logger

	pool sync.Pool // of *job
}

// NewMetric is the histogram azwi_mutation_request: seconds by namespace.
func NewMetric() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "azwi_mutation_request",
		Help: "Distribution of how long it took for the azure-workload-identity mutation request",
		Buckets: []float64{
			.001, .002, .003, .004, .005, .006, .007, .008, .009, .01, .02, .03, .04, .05, .06, .07, .08, .09, .1,
			.2, .3, .4, .5, .6, .7, .8, .9, 1, 1.5, 2, 2.5, 3,
		},
	}, []string{"namespace"})
}

// job is what one review needs, kept for the next.
type job struct {
	review              mutate.Review
	body, patch, answer []byte
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	trust := r.URL.Path == PathTrust && h.Bundles != nil
	if !trust && r.URL.Path != PathIdentity {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodPost {
		http.Error(w, "reviews are posted", http.StatusMethodNotAllowed)
		return
	}
	j, ok := h.pool.Get().(*job)
	if !ok {
		j = new(job)
	}
	defer h.keep(j)
	var err error
	if j.body, err = read(j.body[:0], r); err != nil {
		code := http.StatusBadRequest
		if errors.Is(err, errTooLarge) {
			code = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), code)
		return
	}
	start := time.Now()
	if err := j.review.Parse(j.body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if trust {
		h.trust(r.Context(), j)
	} else {
		h.identity(r.Context(), j)
		h.Metric.WithLabelValues(j.review.Namespace).Observe(time.Since(start).Seconds())
	}
	w.Header()["Content-Type"] = contentType
	_, _ = w.Write(j.answer) // the API server went away: nobody left to tell
}

// contentType is never changed.
var contentType = []string{"application/json"}

func (h *Handler) keep(j *job) {
	if cap(j.body) <= maxRetained && cap(j.answer) <= maxRetained {
		h.pool.Put(j)
	}
}

var errTooLarge = errors.New("the review is too large")

// read reads the whole body into b.
func read(b []byte, r *http.Request) ([]byte, error) {
	if r.ContentLength > maxReview {
		return b, errTooLarge
	}
	if n := int(r.ContentLength) + 1; n > cap(b) { // one more: the end is seen without growing
		b = make([]byte, 0, n)
	}
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if len(b) > maxReview {
			return b, errTooLarge
		}
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

func (h *Handler) identity(ctx context.Context, j *job) {
	pod := &j.review.Pod
	account, err := h.Accounts.Account(ctx, j.review.Namespace, pod.ServiceAccountName())
	if err == nil {
		j.patch, err = h.Identity.Patch(j.patch[:0], pod, account)
	}
	if err != nil {
		h.Log.Error("pod refused", "pod", pod.DisplayName(), "namespace", j.review.Namespace, "service-account", pod.ServiceAccountName(), "error", err.Error())
		j.patch = j.patch[:0]
		j.answer = j.review.Refuse(j.answer[:0], http.StatusBadRequest, err.Error())
		return
	}
	j.answer = j.review.Allow(j.answer[:0], j.patch)
}

func (h *Handler) trust(ctx context.Context, j *job) {
	if !j.review.DryRun {
		if err := h.Bundles.Ensure(ctx, j.review.Namespace); err != nil {
			h.Log.Error("pod refused: no certificates for its namespace", "pod", j.review.Pod.DisplayName(), "namespace", j.review.Namespace, "error", err.Error())
			j.answer = j.review.Refuse(j.answer[:0], http.StatusInternalServerError, "certificates for the namespace: "+err.Error())
			return
		}
	}
	j.patch = mutate.Trust(j.patch[:0], &j.review.Pod)
	j.answer = j.review.Allow(j.answer[:0], j.patch)
}
