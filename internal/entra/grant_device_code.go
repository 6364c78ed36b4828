package entra

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/web"
)

// The states of a device's wish.
const (
	pending  = "pending"
	approved = "approved"
	declined = "declined"
)

// device is a device that waits for somebody to sign in elsewhere (RFC 8628).
type device struct {
	Client   string    `json:"client"`
	Scope    string    `json:"scope,omitempty"`
	Resource string    `json:"resource,omitempty"`
	State    string    `json:"state"`
	User     string    `json:"user,omitempty"`
	Stamp    string    `json:"stamp,omitempty"`
	Expires  time.Time `json:"expires"`
}

// userCode leads from what a person types to the device.
type userCode struct {
	Device  string    `json:"device"` // key
	Expires time.Time `json:"expires"`
}

// codeLetters can't be mistaken for each other and spell no words.
const codeLetters = "BCDFGHJKLMNPQRSTVWXZ23456789"

func newUserCode() (string, error) {
	b := make([]byte, 9)
	for i := range b {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(codeLetters))))
		if err != nil {
			return "", fmt.Errorf("making a user code: %w", err)
		}
		b[i] = codeLetters[n.Int64()]
	}
	return string(b), nil
}

// deviceEndpoint gives a device its two codes (RFC 8628 section 3.2).
func (s *Service) deviceEndpoint(version string) endpoint {
	return func(w http.ResponseWriter, r *http.Request, t tenantRef) {
		req := &tokenRequest{version: version, tenant: t, host: r.Host, http: r}
		b, err := s.newDevice(w, r, req)
		if err != nil {
			s.fail(w, r, attempt{who: shorten(req.get("client_id")), what: "device code"}, err)
			return
		}
		web.WriteJSON(w, http.StatusOK, b)
	}
}

func (s *Service) newDevice(w http.ResponseWriter, r *http.Request, req *tokenRequest) (map[string]any, error) {
	var err error
	if req.form, err = readForm(w, r); err != nil {
		return nil, err
	}
	id, err := req.need("client_id")
	if err != nil {
		return nil, err
	}
	if req.client, err = s.findClient(id); err != nil {
		return nil, err
	}
	if !req.client.public() {
		return nil, aad(apierr.Unauthorized, "invalid_client", "7000218", "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
	}
	if _, err := s.want(req); err != nil {
		return nil, err
	}
	if err := s.devices.check(r); err != nil {
		return nil, err
	}
	s.devices.failed(r)
	raw := secretText(48)
	user, err := newUserCode()
	if err != nil {
		return nil, err
	}
	end := s.now().Add(deviceLife).UTC()
	key := devicePrefix + hashed(raw)
	d := device{Client: req.client.id, Scope: req.get("scope"), Resource: req.get("resource"), State: pending, Expires: end}
	if _, err := store.PutJSON(r.Context(), s.cfg.Store, key, "entra.device", 0, d); err != nil {
		return nil, fmt.Errorf("storing a device code: %w", err)
	}
	if _, err := store.PutJSON(r.Context(), s.cfg.Store, userPrefix+hashed(user), "entra.usercode", 0, userCode{key, end}); err != nil {
		return nil, fmt.Errorf("storing a user code: %w", err)
	}
	page := s.devicePageURL(r)
	b := map[string]any{
		"user_code": user, "device_code": raw, "expires_in": int(deviceLife.Seconds()), "interval": 5,
		"message": "To sign in, use a web browser to open the page " + page + " and enter the code " + user + " to authenticate.",
	}
	if req.version == "2.0" {
		b["verification_uri"] = page
	} else {
		b["verification_url"], b["expires_in"], b["interval"] = page, "900", "5"
	}
	return b, nil
}

// deviceCode is asked again and again until somebody has signed in (RFC 8628
// section 3.4).
func (s *Service) deviceCode(ctx context.Context, r *tokenRequest) (*answer, error) {
	raw := r.get("device_code")
	if raw == "" {
		raw = r.get("code") // v1
	}
	if raw == "" {
		return nil, missing("device_code")
	}
	key := devicePrefix + hashed(raw)
	d, rev, err := store.GetJSON[device](ctx, s.cfg.Store, key)
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && d.Client != r.client.id:
		return nil, aad(apierr.BadRequest, "bad_verification_code", "70019", "The verification code is not valid: it expired, was used, or is another client's.")
	case err != nil:
		return nil, fmt.Errorf("reading a device code: %w", err)
	case !s.now().Before(d.Expires):
		return nil, aad(apierr.BadRequest, "expired_token", "70020", "The provided value for the input parameter 'device_code' is not valid. This device code has expired.")
	case d.State == declined:
		return nil, aad(apierr.BadRequest, "authorization_declined", "70018", "The user declined to sign in on this device.")
	case d.State != approved:
		return nil, aad(apierr.BadRequest, "authorization_pending", "70016", "OAuth 2.0 device flow error. Authorization is pending. Continue polling.")
	}
	u, err := s.active(d.User, d.Stamp)
	if err != nil {
		return nil, err
	}
	for name, v := range map[string]string{"scope": d.Scope, "resource": d.Resource} {
		if v != "" {
			r.form.Set(name, v)
		}
	}
	w, err := s.want(r)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Store.Delete(ctx, key, rev); err != nil { // once
		return nil, aad(apierr.BadRequest, "bad_verification_code", "70019", "The verification code is not valid: it was used.").WithCause(err)
	}
	return s.forUser(ctx, r, u, w, "", nil)
}

// findDevice is the device that waits under a user code; keys and revision with it.
func (s *Service) findDevice(ctx context.Context, typed string) (d device, key string, rev int64, err error) {
	typed = strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(typed))
	c, _, err := store.GetJSON[userCode](ctx, s.cfg.Store, userPrefix+hashed(typed))
	if err == nil {
		d, rev, err = store.GetJSON[device](ctx, s.cfg.Store, c.Device)
	}
	if errors.Is(err, store.ErrNotFound) || err == nil && (!s.now().Before(d.Expires) || d.State != pending) {
		return d, "", 0, aad(apierr.BadRequest, "invalid_request", "70020", "That code didn't work. Check the code and try again.")
	}
	if err != nil {
		return d, "", 0, fmt.Errorf("reading a user code: %w", err)
	}
	return d, c.Device, rev, nil
}

// decide writes what the person on the page decided.
func (s *Service) decide(ctx context.Context, d device, key string, rev int64) error {
	if _, err := store.PutJSON(ctx, s.cfg.Store, key, "entra.device", rev, d); err != nil {
		return fmt.Errorf("deciding on a device: %w", err)
	}
	return nil
}
