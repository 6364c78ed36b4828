package environment

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"lazurite.dev/internal/durable"
	"lazurite.dev/internal/image"
)

// Pull opens the image that a reference names in a registry of this cloud, in
// the name of who is to run it; nil where the reference is of none. Its error is
// a *PullError where the image can't be had.
type Pull func(ctx context.Context, reference string) (*Pulled, error)

// Pulled is an image of a registry, opened.
type Pulled struct {
	Image v1.Image
	Name  string // with its digest: acme.azurecr.io/serve@sha256:…
	Bytes int64  // of its layers and its configuration
	Close func() error
}

// PullError says why an image can't be had.
type PullError struct{ Message string }

// Error implements error.
func (e *PullError) Error() string { return e.Message }

// pulledTag begins the tags of images that were pulled; their digest follows.
const pulledTag = "pulled-"

// atHand finds the image of a name: in an archive, or in a registry of this
// cloud, of which a copy is kept. kept is what it is called there. The turn is
// not held.
func (r *resolving) atHand(ctx context.Context, name string) (h held, kept string, ok bool, err error) {
	if h, kept, ok = r.archived(name); ok || r.pull == nil {
		return h, kept, ok, nil
	}
	p, err := r.opened(ctx, name) // judges it, for which a network may have to be made
	if p == nil || err != nil {
		return h, "", false, err
	}
	h, kept, ok, err = r.there(name, p)
	if err = errors.Join(err, p.Close()); ok || err != nil {
		return h, kept, ok, err
	}
	if r.built.Folder == "" {
		return h, "", false, r.refuse("images of registries are kept nowhere here")
	}
	give, err := r.built.pulling(ctx)
	if err != nil {
		return h, "", false, err
	}
	defer give()
	if p, err = r.opened(ctx, name); p == nil || err != nil { // after a wait, in which none of its files was open
		return h, "", false, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	h, kept, err = r.keep(ctx, name, p)
	return h, kept, err == nil, err
}

func (r *resolving) archived(name string) (h held, kept string, ok bool) {
	h, ok, unreadable := r.archives.find(name)
	for _, err := range unreadable {
		r.say("WARNING: an archive of images is left out: %v", err)
	}
	return h, name, ok
}

// opened opens an image of a registry; nil where it is of none.
func (r *resolving) opened(ctx context.Context, name string) (*Pulled, error) {
	p, err := r.pull(ctx, name)
	if failed, ok := errors.AsType[*PullError](err); ok {
		return nil, r.unpullable(name, failed.Message)
	}
	return p, err
}

// unpullable is the end of a build whose image can't be had.
func (r *resolving) unpullable(name, why string) error {
	err := r.refuse("Unable to download user container image '%s': %s", name, why)
	if e, ok := errors.AsType[*BuildError](err); ok {
		e.Bad = true
	}
	return err
}

// there finds the copy of an image, which is claimed.
func (r *resolving) there(name string, p *Pulled) (h held, kept string, ok bool, err error) {
	digest, err := p.Image.Digest()
	if err != nil {
		return h, "", false, r.unpullable(name, err.Error())
	}
	kept = builtName + pulledTag + digest.Hex
	r.claim(kept)
	if h, ok, _ = r.archives.find(kept); ok {
		r.say("The image %s is %s, which was pulled before.", name, p.Name)
	}
	return h, kept, ok, nil
}

// keep copies an image, unless it is there. The turn is held no longer than for
// writing it: whoever made the image decides how long reading it takes.
func (r *resolving) keep(ctx context.Context, name string, p *Pulled) (h held, kept string, err error) {
	h, kept, ok, err := r.there(name, p)
	if ok || err != nil {
		return h, kept, err
	}
	a, err := image.Of(p.Image, kept)
	if err != nil {
		return h, "", r.unpullable(name, err.Error())
	}
	if _, err := parseManifest(a.Images[0].Labels[PackagesLabel]); err != nil {
		return h, "", r.unpullable(name, "its label "+PackagesLabel+" can't be read: "+err.Error())
	}
	left, err := r.built.left(ctx)
	if err != nil {
		return h, "", err
	}
	unpacked, err := a.Images[0].Check(ctx, left)
	switch {
	case errors.Is(err, image.ErrTooLarge):
		unpacked = r.built.Most + 1 // for which there is no room
	case ctx.Err() != nil:
		return h, "", ctx.Err()
	case err != nil:
		return h, "", r.unpullable(name, err.Error())
	}
	give, err := r.built.take(ctx)
	if err != nil {
		return h, "", err
	}
	defer give()
	if _, ok, _ := r.archives.find(kept); !ok { // nobody else was faster
		if err := r.store(ctx, kept, max(p.Bytes, unpacked), func(_ context.Context, w io.Writer) error { return a.Write(w) }); err != nil {
			return h, "", err
		}
	}
	r.say("The image %s is %s, pulled from its registry: %d bytes.", name, p.Name, p.Bytes)
	h, ok, unreadable := r.archives.find(kept)
	if !ok {
		return h, "", errors.Join(errors.New("the image "+p.Name+" was pulled, and is not there"), errors.Join(unreadable...))
	}
	return h, kept, nil
}

// store keeps an image of so many bytes, which write writes. The turn is held.
func (r *resolving) store(ctx context.Context, name string, bytes int64, write func(context.Context, io.Writer) error) error {
	if err := r.built.room(ctx, bytes); err != nil {
		return err
	}
	if err := os.MkdirAll(r.built.Folder, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(r.built.Folder, buildingPrefix)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone after the rename
	if err := durable.Finish(f, write(ctx, &until{ctx, f})); err != nil {
		return err
	}
	return durable.Rename(f.Name(), r.built.file(name))
}

// until is a writer that ends with its context.
type until struct {
	ctx context.Context
	to  io.Writer
}

// Write implements io.Writer.
func (u *until) Write(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.to.Write(b)
}

// ownName reports whether a name is one of those under which images are kept
// here: they are nobody's to ask for, as whose they are is judged where they are
// made or pulled.
func ownName(name string) bool { return strings.HasPrefix(name, builtName) }
