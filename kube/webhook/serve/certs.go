package serve

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// current is the certificate that connections are answered with. It changes
// under a running server: connections that stand are not touched.
type current struct {
	cert atomic.Pointer[tls.Certificate]
}

func (c *current) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := c.cert.Load(); cert != nil {
		return cert, nil
	}
	return nil, errors.New("no serving certificate yet")
}

func (c *current) ready() error {
	_, err := c.get(nil)
	return err
}

// fileCerts serves with the certificate in a folder, as a Secret is mounted.
type fileCerts struct {
	current
	dir       string
	every     time.Duration // how often it is looked at
	log       *slog.Logger
	cert, key []byte
}

func (f *fileCerts) load() error {
	cert, err := os.ReadFile(filepath.Join(f.dir, fileCert))
	if err != nil {
		return fmt.Errorf("serving certificate: %w", err)
	}
	key, err := os.ReadFile(filepath.Join(f.dir, fileKey))
	if err != nil {
		return fmt.Errorf("serving certificate's key: %w", err)
	}
	if bytes.Equal(cert, f.cert) && bytes.Equal(key, f.key) {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("serving certificate: %w", err)
	}
	f.cert, f.key = cert, key
	f.current.cert.Store(&pair)
	f.log.Info("serving certificate loaded", "not-after", pair.Leaf.NotAfter)
	return nil
}

// run keeps the certificate as the files are until ctx ends. A bad one is
// told, and the last good one stays.
func (f *fileCerts) run(ctx context.Context) {
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	for {
		if err := f.load(); err != nil {
			f.log.Error("serving certificate not loaded", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ownCerts makes the serving certificate and keeps it in a Secret that all
// replicas share. Nobody leads: who finds it missing or due writes it, on the
// condition that nobody else has; all others take over what is there.
type ownCerts struct {
	current
	api               dynamic.Interface
	namespace, secret string
	name              string              // of the server: SERVICE.NAMESPACE.svc
	configurations    map[string][]string // configuration → names of our webhooks in it
	settle            time.Duration       // from telling the API servers of a new authority until it is used
	now               func() time.Time
	log               *slog.Logger
	kicked            chan struct{} // something has changed
	have              serving
	alone             time.Time // from then on only the authorities of have are registered
	registered        atomic.Bool
}

// kick makes run look at once.
func (o *ownCerts) kick() {
	select {
	case o.kicked <- struct{}{}:
	default: // it will anyway
	}
}

func (o *ownCerts) run(ctx context.Context) {
	tick := time.NewTicker(10 * time.Minute)
	defer tick.Stop()
	for wait := time.Second; ; {
		err := o.ensure(ctx)
		if ctx.Err() != nil {
			return
		}
		var again <-chan time.Time
		if err != nil {
			o.log.Error("serving certificate", "error", err.Error())
			again, wait = time.After(wait), min(2*wait, time.Minute)
		} else {
			wait = time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-again:
		case <-o.kicked:
		}
	}
}

// ensure brings Secret, registrations and serving certificate to where they
// should be. The API servers learn of an authority before anybody serves with
// a certificate of its, and forget one only when nobody does any more.
func (o *ownCerts) ensure(ctx context.Context) error {
	s, err := o.shared(ctx)
	if err != nil {
		return fmt.Errorf("secret %s: %w", o.secret, err)
	}
	same := o.have.equal(s)
	changed, err := o.register(ctx, s[fileCACert], same && !o.now().Before(o.alone))
	if err != nil || same {
		return err
	}
	if changed && o.have != nil {
		select {
		case <-time.After(o.settle):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	pair, err := s.pair(o.name, o.now())
	if err != nil {
		return fmt.Errorf("secret %s: %w", o.secret, err)
	}
	o.have, o.alone = s, o.now().Add(2*o.settle) // the other replicas are as far by then
	o.cert.Store(pair)
	time.AfterFunc(2*o.settle+time.Second, o.kick)
	o.log.Info("serving certificate taken over", "not-after", pair.Leaf.NotAfter)
	return nil
}

// shared is the Secret's set, made or renewed where it has to be.
func (o *ownCerts) shared(ctx context.Context) (serving, error) {
	client := o.api.Resource(secrets).Namespace(o.namespace)
	for {
		object, err := client.Get(ctx, o.secret, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			object = &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
				"metadata": map[string]any{"name": o.secret, "namespace": o.namespace},
			}}
			object, err = client.Create(ctx, object, metav1.CreateOptions{FieldManager: fieldManager})
			if apierrors.IsAlreadyExists(err) {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		have := fromSecret(object)
		next, err := have.renewed(o.name, o.now())
		if err != nil || next.equal(have) {
			return next, err
		}
		data := map[string]any{}
		for k, v := range next {
			data[k] = base64.StdEncoding.EncodeToString(v)
		}
		object.Object["data"] = data
		_, err = client.Update(ctx, object, metav1.UpdateOptions{FieldManager: fieldManager})
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			continue // another replica was faster: take its
		}
		if err == nil {
			o.log.Info("serving certificate made")
		}
		return next, err
	}
}

func fromSecret(object *unstructured.Unstructured) serving {
	s := serving{}
	data, _, _ := unstructured.NestedMap(object.Object, "data")
	for _, f := range []string{fileCert, fileKey, fileCACert, fileCAKey} {
		text, _ := data[f].(string)
		if b, err := base64.StdEncoding.DecodeString(text); err == nil && len(b) > 0 {
			s[f] = b
		}
	}
	return s
}

// register tells the API servers, through the registrations, which authorities
// sign our certificates, and says whether that was news. Those that are there
// already stay beside them unless alone.
func (o *ownCerts) register(ctx context.Context, ca []byte, alone bool) (changed bool, err error) {
	for name, hooks := range o.configurations {
		object, err := o.api.Resource(webhooks).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) { // switched off; when it comes, the watch tells
			continue
		}
		if err != nil {
			return changed, fmt.Errorf("read %s: %w", name, err)
		}
		ops := registration(object, hooks, ca, alone, o.now())
		if len(ops) == 0 {
			continue
		}
		patch, err := json.Marshal(ops)
		if err != nil {
			return changed, err
		}
		if _, err := o.api.Resource(webhooks).Patch(ctx, name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: fieldManager}); err != nil {
			return changed, fmt.Errorf("patch %s: %w", name, err)
		}
		o.log.Info("authority registered", "configuration", name)
		changed = true
	}
	o.registered.Store(true)
	return changed, nil
}

type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value string `json:"value"`
}

// registration is the JSON patch by which our webhooks in the configuration
// carry the authorities. It holds only if they are where they were.
func registration(object *unstructured.Unstructured, hooks []string, ca []byte, alone bool, now time.Time) (ops []operation) {
	list, _, _ := unstructured.NestedSlice(object.Object, "webhooks")
	for i, h := range list {
		hook, _ := h.(map[string]any)
		name, _, _ := unstructured.NestedString(hook, "name")
		text, _, _ := unstructured.NestedString(hook, "clientConfig", "caBundle")
		have, err := base64.StdEncoding.DecodeString(text)
		want := ca
		if err == nil && !alone {
			want = together(ca, have, now)
		}
		if slices.Contains(hooks, name) && (err != nil || !bytes.Equal(have, want)) {
			at := fmt.Sprintf("/webhooks/%d/", i)
			ops = append(ops, operation{"test", at + "name", name}, operation{"add", at + "clientConfig/caBundle", base64.StdEncoding.EncodeToString(want)})
		}
	}
	return ops
}

// together is first, and what of second it lacks and has not ended.
func together(first, second []byte, now time.Time) []byte {
	out := bytes.Clone(first)
	for rest := stillGood(second, now); len(rest) > 0; {
		block, tail := pem.Decode(rest)
		rest = tail
		if c := pem.EncodeToMemory(block); !bytes.Contains(out, c) {
			out = append(out, c...)
		}
	}
	return out
}

func (o *ownCerts) ready() error {
	if !o.registered.Load() {
		return errors.New("the authority is not registered yet")
	}
	return o.current.ready()
}
