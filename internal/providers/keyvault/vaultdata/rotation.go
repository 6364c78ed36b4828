package vaultdata

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// keyExtra is what the head of a key holds beside its versions.
type keyExtra struct {
	Policy *rotation `json:"rotation,omitempty"`
}

// rotation is a stored rotation policy, the durations as they were written.
type rotation struct {
	Expiry  string           `json:"expiryTime,omitempty"`
	Actions []LifetimeAction `json:"lifetimeActions"`
	Created int64            `json:"created"`
	Updated int64            `json:"updated"`
}

// LifetimeAction is one action of a rotation policy.
type LifetimeAction struct {
	Trigger struct {
		TimeAfterCreate  string `json:"timeAfterCreate,omitempty"`
		TimeBeforeExpiry string `json:"timeBeforeExpiry,omitempty"`
	} `json:"trigger"`
	Action struct {
		Type string `json:"type"` // Rotate or Notify, in any case
	} `json:"action"`
}

// RotationPolicy is the rotation policy of a key in requests and answers.
type RotationPolicy struct {
	ID              string           `json:"id,omitempty"`
	LifetimeActions []LifetimeAction `json:"lifetimeActions"`
	Attributes      *struct {
		ExpiryTime string `json:"expiryTime,omitempty"`
		Created    int64  `json:"created,omitempty"`
		Updated    int64  `json:"updated,omitempty"`
	} `json:"attributes"`
}

// Bounds of a rotation policy in days.
// Source: Key Vault, "Configure key autorotation".
const (
	minExpiryDays = 28
	minRotateDays = 7
)

// period is an ISO 8601 duration.
type period struct{ years, months, days, seconds int }

// parsePeriod reads durations such as P90D, P3M, P1Y10D, PT48H (ISO 8601).
func parsePeriod(s string) (period, error) {
	var p period
	bad := fmt.Errorf("%q is not a duration such as P90D", clip(s))
	rest, ok := strings.CutPrefix(strings.ToUpper(s), "P")
	if !ok || rest == "" || len(s) > 40 {
		return p, bad
	}
	date, clock, timed := strings.Cut(rest, "T")
	if timed && clock == "" {
		return p, bad
	}
	parts := []struct {
		text  string
		units string
		add   func(unit byte, n int)
	}{
		{date, "YMWD", func(u byte, n int) {
			switch u {
			case 'Y':
				p.years = n
			case 'M':
				p.months = n
			case 'W':
				p.days += 7 * n
			default:
				p.days += n
			}
		}},
		{clock, "HMS", func(u byte, n int) {
			p.seconds += n * map[byte]int{'H': 3600, 'M': 60, 'S': 1}[u]
		}},
	}
	for _, part := range parts {
		units := part.units
		for text := part.text; text != ""; {
			i := strings.IndexAny(text, units)
			if i < 1 {
				return p, bad
			}
			n, err := strconv.ParseUint(text[:i], 10, 16)
			if err != nil {
				return p, bad
			}
			part.add(text[i], int(n))
			units = units[strings.IndexByte(units, text[i])+1:]
			text = text[i+1:]
			if units == "" && text != "" {
				return p, bad
			}
		}
	}
	return p, nil
}

func (p period) after(t time.Time) time.Time {
	return t.AddDate(p.years, p.months, p.days).Add(time.Duration(p.seconds) * time.Second)
}

func (p period) before(t time.Time) time.Time {
	return t.AddDate(-p.years, -p.months, -p.days).Add(-time.Duration(p.seconds) * time.Second)
}

// atLeast reports whether p, counted from now, has that many days.
func (p period) atLeast(days int, now time.Time) bool {
	return !p.after(now).Before(now.AddDate(0, 0, days))
}

// check refuses a policy that Azure would refuse.
func (r *rotation) check(now time.Time) error {
	if r.Expiry != "" {
		p, err := parsePeriod(r.Expiry)
		if err != nil {
			return badProperty("attributes.expiryTime", "%v", err)
		}
		if !p.atLeast(minExpiryDays, now) {
			return badProperty("attributes.expiryTime", "it must be at least %d days", minExpiryDays)
		}
	}
	seen := map[string]bool{}
	for _, a := range r.Actions {
		word := strings.ToLower(a.Action.Type)
		if seen[word] {
			return badProperty("lifetimeActions", "there is at most one action of the type %s", a.Action.Type)
		}
		seen[word] = true
		if err := r.checkAction(word, a, now); err != nil {
			return err
		}
	}
	return nil
}

func (r *rotation) checkAction(word string, a LifetimeAction, now time.Time) error {
	create, expiry := a.Trigger.TimeAfterCreate, a.Trigger.TimeBeforeExpiry
	text := create + expiry
	switch {
	case word != "rotate" && word != "notify":
		return badProperty("lifetimeActions.action.type", "the type %q is neither Rotate nor Notify", clip(a.Action.Type))
	case (create == "") == (expiry == ""):
		return badProperty("lifetimeActions.trigger", "exactly one of timeAfterCreate and timeBeforeExpiry is needed")
	case word == "notify" && create != "":
		return badProperty("lifetimeActions.trigger", "a Notify action has the trigger timeBeforeExpiry")
	case expiry != "" && r.Expiry == "" && word == "rotate":
		return badProperty("lifetimeActions.trigger", "timeBeforeExpiry needs attributes.expiryTime")
	}
	p, err := parsePeriod(text)
	if err != nil {
		return badProperty("lifetimeActions.trigger", "%v", err)
	}
	if !p.atLeast(minRotateDays, now) {
		return badProperty("lifetimeActions.trigger", "it must be at least %d days", minRotateDays)
	}
	if r.Expiry == "" {
		return nil
	}
	whole, err := parsePeriod(r.Expiry)
	if err != nil {
		return badProperty("attributes.expiryTime", "%v", err)
	}
	if whole.after(now).Before(p.after(now).AddDate(0, 0, minRotateDays)) {
		return badProperty("lifetimeActions.trigger", "creation, rotation and expiry must be at least %d days apart", minRotateDays)
	}
	return nil
}

// expire sets the expiry that the policy gives to a version made now.
func (r *rotation) expire(a *attrs, now time.Time) error {
	if r == nil || r.Expiry == "" || a.Expires != nil {
		return nil
	}
	p, err := parsePeriod(r.Expiry)
	if err != nil {
		return fmt.Errorf("rotation policy: %w", err)
	}
	at := p.after(now).Unix()
	a.Expires = &at
	return nil
}

// due reports whether the policy wants a version newer than cur.
func (r *rotation) due(cur *version[keyBody], now time.Time) bool {
	if r == nil || cur == nil {
		return false
	}
	for _, a := range r.Actions {
		if !strings.EqualFold(a.Action.Type, "rotate") {
			continue
		}
		if p, err := parsePeriod(a.Trigger.TimeAfterCreate); err == nil {
			return !now.Before(p.after(time.Unix(cur.Attrs.Created, 0)))
		}
		if p, err := parsePeriod(a.Trigger.TimeBeforeExpiry); err == nil && cur.Attrs.Expires != nil {
			return !now.Before(p.before(time.Unix(*cur.Attrs.Expires, 0)))
		}
	}
	return false
}

var errNotDue = errors.New("the key was rotated meanwhile")

// rotate makes a new version with the parameters of the current one. With
// onlyIfDue it does nothing when another has rotated the key meanwhile.
func (o *Objects) rotate(ctx context.Context, v *Vault, name string, onlyIfDue bool) (*head[keyBody, keyExtra], error) {
	h, err := o.keys.live(ctx, v, name)
	if err != nil {
		return nil, err
	}
	cur := h.Current
	m, err := generate(keySpec{kty: cur.Body.Kty, curve: cur.Body.Curve, size: cur.Body.Size})
	if err != nil {
		return nil, err
	}
	ver, err := o.sealKey(ctx, v, name, m, cur.Body.Ops)
	if err != nil {
		return nil, err
	}
	h, err = o.keys.add(ctx, v, name, ver, func(h *head[keyBody, keyExtra]) error {
		if h.Current == nil {
			return keyKind.notFound(name)
		}
		if onlyIfDue && !h.Extra.Policy.due(h.Current, o.now()) {
			return errNotDue
		}
		ver.Attrs, ver.Tags = attrs{Enabled: true, Created: o.now().Unix(), Updated: o.now().Unix()}, h.Current.Tags
		return h.Extra.Policy.expire(&ver.Attrs, o.now())
	})
	if errors.Is(err, errNotDue) {
		return o.keys.live(ctx, v, name)
	}
	return h, err
}

// RotateKey makes a new version with the parameters of the current one.
func (o *Objects) RotateKey(ctx context.Context, v *Vault, name string) (*KeyBundle, error) {
	if err := o.ownedByCert(ctx, v, keyKind, name); err != nil {
		return nil, err
	}
	h, err := o.rotate(ctx, v, name, false)
	if err != nil {
		return nil, err
	}
	return plainKeyView(v, h, h.Current).bundle(v), nil
}

// showPolicy is the policy of h, Azure's default where none was set.
func showPolicy(v *Vault, h *head[keyBody, keyExtra]) *RotationPolicy {
	r := h.Extra.Policy
	if r == nil {
		a := LifetimeAction{}
		a.Trigger.TimeBeforeExpiry, a.Action.Type = "P30D", "Notify"
		r = &rotation{Actions: []LifetimeAction{a}, Created: h.Current.Attrs.Created, Updated: h.Current.Attrs.Created}
	}
	p := &RotationPolicy{ID: v.URI + "/keys/" + h.Name + "/rotationpolicy", LifetimeActions: r.Actions}
	p.Attributes = &struct {
		ExpiryTime string `json:"expiryTime,omitempty"`
		Created    int64  `json:"created,omitempty"`
		Updated    int64  `json:"updated,omitempty"`
	}{r.Expiry, r.Created, r.Updated}
	return p
}

// GetRotationPolicy gives the rotation policy of a key.
func (o *Objects) GetRotationPolicy(ctx context.Context, v *Vault, name string) (*RotationPolicy, error) {
	h, err := o.keys.live(ctx, v, name)
	if err != nil {
		return nil, err
	}
	return showPolicy(v, h), nil
}

// SetRotationPolicy replaces the rotation policy of a key. A due rotation
// happens when the key is next used or read.
func (o *Objects) SetRotationPolicy(ctx context.Context, v *Vault, name string, in *RotationPolicy) (*RotationPolicy, error) {
	now := o.now()
	r := &rotation{Actions: in.LifetimeActions, Created: now.Unix(), Updated: now.Unix()}
	if in.Attributes != nil {
		r.Expiry = in.Attributes.ExpiryTime
	}
	if r.Actions == nil {
		r.Actions = []LifetimeAction{}
	}
	if err := r.check(now); err != nil {
		return nil, err
	}
	h, err := o.keys.change(ctx, v, name, func(h *head[keyBody, keyExtra]) error {
		if h.Extra.Policy != nil {
			r.Created = h.Extra.Policy.Created
		}
		h.Extra.Policy = r
		return nil
	})
	if err != nil {
		return nil, err
	}
	return showPolicy(v, h), nil
}
