package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// The error codes of containers on both planes.
const (
	CodeContainerExists   = "ContainerAlreadyExists"
	CodeContainerNotFound = "ContainerNotFound"
	CodePublicAccess      = "PublicAccessNotPermitted"
	CodeSealed            = "BlobImmutableDueToPolicy"
)

// sealedKey is in Private of a container in which nothing can be written any more.
const sealedKey = "sealed"

// Sealed is the refusal to write to a container that SealContainer has closed.
func Sealed() error {
	return apierr.New(apierr.Conflict, CodeSealed, "This operation is not permitted as the blob is immutable due to a policy.")
}

// How far a container is open to callers without a credential.
const (
	PublicBlob      = "Blob"      // its blobs can be read
	PublicContainer = "Container" // and listed
	PublicNone      = "None"
)

// ContainerProperties are those of a container.
type ContainerProperties struct {
	Public   string            `json:"publicAccess,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Modified string            `json:"lastModifiedTime,omitempty"`

	LeaseStatus string     `json:"leaseStatus,omitempty"`
	LeaseState  string     `json:"leaseState,omitempty"`
	Policy      *bool      `json:"hasImmutabilityPolicy,omitempty"`
	Hold        *bool      `json:"hasLegalHold,omitempty"`
	Scope       string     `json:"defaultEncryptionScope,omitempty"`
	NoOther     *bool      `json:"denyEncryptionScopeOverride,omitempty"`
	Immutable   *Immutable `json:"immutableStorageWithVersioning,omitempty"`
	NFSSquash   *bool      `json:"enableNfsV3RootSquash,omitempty"`
	NFSAll      *bool      `json:"enableNfsV3AllSquash,omitempty"`
}

func containerReadOnly() []string {
	return []string{
		"lastModifiedTime", "leaseStatus", "leaseState", "leaseDuration", "hasImmutabilityPolicy", "hasLegalHold", "version", "deleted", "deletedTime",
		"remainingRetentionDays", "immutabilityPolicy", "legalHold",
	}
}

// Container is one of an account.
type Container struct {
	ID       rid.ID
	UID      string // of this container alone, for ever
	Name     string
	Public   string // PublicNone, PublicBlob or PublicContainer
	Metadata map[string]string
	Modified time.Time
	Sealed   bool // its blobs are read and deleted, and neither made nor changed
}

func decodeContainer(d store.Doc) (*Container, error) {
	e, err := arm.DecodeEnvelope(d)
	if err != nil {
		return nil, err
	}
	return containerOf(e)
}

func containerOf(e *arm.Envelope) (*Container, error) {
	r, err := arm.View[ContainerProperties](e)
	if err != nil {
		return nil, err
	}
	c := &Container{ID: r.ID, UID: e.Private[uidKey], Name: r.ID.Name(), Public: r.Properties.Public, Metadata: r.Properties.Metadata, Sealed: e.Private[sealedKey] != ""}
	if c.Modified, err = time.Parse(azureTime, r.Properties.Modified); err != nil {
		return nil, fmt.Errorf("decode container %s: %w", r.ID, err)
	}
	if c.UID == "" {
		return nil, fmt.Errorf("decode container %s: it has no uid", r.ID)
	}
	return c, nil
}

// CheckContainerName keeps the rule of names. Source: "Naming and Referencing
// Containers, Blobs, and Metadata".
func CheckContainerName(name string) error {
	ok := len(name) >= 3 && len(name) <= 63 && !strings.HasPrefix(name, "-") && !strings.HasSuffix(name, "-") && !strings.Contains(name, "--")
	for i := range len(name) {
		c := name[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok && name != "$logs" {
		return apierr.New(apierr.BadRequest, "InvalidResourceName", "The specified resource name '%s' contains invalid characters or has the wrong length: container names have 3 to 63 lower-case letters, digits and single dashes, and neither begin nor end with a dash.", name)
	}
	if name == "$logs" {
		return apierr.New(apierr.BadRequest, "InvalidResourceName", "The container '$logs' is the service's own, and there are no such logs.")
	}
	return nil
}

func containerID(account rid.ID, name string) rid.ID {
	return account.Child("blobServices", "default").Child("containers", name)
}

// Container finds a container; a NotFound where there is none.
func (a *Accounts) Container(ctx context.Context, acc *Account, name string) (*Container, error) {
	missing := apierr.New(apierr.NotFound, CodeContainerNotFound, "The specified container does not exist.")
	if CheckContainerName(name) != nil {
		return nil, missing
	}
	id := containerID(acc.ID, name)
	if a.containers != nil && a.containers.Fresh() == nil {
		if c, ok := a.containers.Get(arm.ResourceKey(id)); ok {
			return c, nil
		}
		return nil, missing
	}
	e, err := arm.Resources{Store: a.Store}.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	return containerOf(e)
}

// Containers are those of an account, in the order of their names.
func (a *Accounts) Containers(ctx context.Context, acc *Account) ([]*Container, error) {
	var out []*Container
	q := store.Query{Prefix: arm.ResourceKey(acc.ID) + "/", Kind: strings.ToLower(ContainerType)}
	err := store.All(ctx, a.Store, q, func(d store.Doc) error {
		c, err := decodeContainer(d)
		out = append(out, c)
		return err
	})
	return out, err
}

// CreateContainer makes a container; by is who does, for its systemData.
func (a *Accounts) CreateContainer(ctx context.Context, acc *Account, name string, props ContainerProperties, by string) (*Container, error) {
	if err := CheckContainerName(name); err != nil {
		return nil, err
	}
	if err := checkPublic(&props, acc.Anonymous); err != nil {
		return nil, err
	}
	now := a.now().UTC()
	props.Modified = now.Format(azureTime)
	raw, err := json.Marshal(props)
	if err != nil {
		return nil, fmt.Errorf("encode container: %w", err)
	}
	id := containerID(acc.ID, name)
	e := &arm.Envelope{ID: id.String(), Name: name, Type: ContainerType, Private: map[string]string{uidKey: uuid.NewString()}}
	if err := json.Unmarshal(raw, &e.Properties); err != nil {
		return nil, fmt.Errorf("encode container: %w", err)
	}
	e.System.CreatedBy, e.System.LastModifiedBy, e.System.CreatedAt, e.System.LastModifiedAt = by, by, now, now
	if _, err := a.Store.Get(ctx, arm.ResourceKey(acc.ID)); err != nil {
		return nil, fmt.Errorf("make container: %w", err) // the account goes
	}
	err = arm.Resources{Store: a.Store}.Put(ctx, e)
	if conflict(err) {
		return nil, apierr.New(apierr.Conflict, CodeContainerExists, "The specified container already exists.")
	}
	if err != nil {
		return nil, err
	}
	return containerOf(e)
}

// ChangeContainer writes what change makes of a container's properties.
func (a *Accounts) ChangeContainer(ctx context.Context, acc *Account, name string, change func(*ContainerProperties)) (*Container, error) {
	res, id := arm.Resources{Store: a.Store}, containerID(acc.ID, name)
	for range writeAttempts {
		e, err := res.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return nil, apierr.New(apierr.NotFound, CodeContainerNotFound, "The specified container does not exist.")
		}
		if err != nil {
			return nil, err
		}
		r, err := arm.View[ContainerProperties](e)
		if err != nil {
			return nil, err
		}
		change(&r.Properties)
		if err := checkPublic(&r.Properties, acc.Anonymous); err != nil {
			return nil, err
		}
		r.Properties.Modified = a.now().UTC().Format(azureTime)
		raw, err := json.Marshal(r.Properties)
		if err != nil {
			return nil, fmt.Errorf("encode container: %w", err)
		}
		e.Properties = nil
		if err := json.Unmarshal(raw, &e.Properties); err != nil {
			return nil, fmt.Errorf("encode container: %w", err)
		}
		if err := res.Put(ctx, e); err == nil {
			return containerOf(e)
		} else if !conflict(err) {
			return nil, err
		}
	}
	return nil, busy(acc.ID)
}

// SealContainer makes that no blob of a container is made or changed any more,
// by nobody, whatever was signed for it; blobs can be deleted, and so can the
// container. One that is not there is no error.
func (a *Accounts) SealContainer(ctx context.Context, account rid.ID, name string) error {
	res, id := arm.Resources{Store: a.Store}, containerID(account, name)
	for range writeAttempts {
		e, err := res.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) || err == nil && e.Private[sealedKey] != "" {
			return nil
		} else if err != nil {
			return err
		}
		if e.Private == nil {
			e.Private = map[string]string{}
		}
		e.Private[sealedKey] = "true"
		if err := res.Put(ctx, e); !conflict(err) {
			return err
		}
	}
	return busy(account)
}

// DeleteContainer removes a container with what stands under it in the
// management plane. What it held must be erased afterwards: Sweep does it
// where the caller dies.
func (a *Accounts) DeleteContainer(ctx context.Context, acc *Account, c *Container) error {
	if err := a.markDead(ctx, dead{Account: acc.UID, Container: c.UID}); err != nil {
		return err
	}
	if err := store.DeletePrefix(ctx, a.Store, arm.ResourceKey(c.ID)+"/"); err != nil {
		return fmt.Errorf("delete what is under a container: %w", err)
	}
	return arm.Resources{Store: a.Store}.Delete(ctx, c.ID)
}

// checkPublic refuses to open a container of an account that does not allow it.
func checkPublic(n *ContainerProperties, allowed bool) error {
	if n.Public == "" {
		n.Public = PublicNone
	}
	p := pick(n.Public, PublicNone, PublicBlob, PublicContainer)
	if p == "" {
		return bad("properties.publicAccess", "The value '%s' of publicAccess is none of 'None', 'Blob', 'Container'.", n.Public)
	}
	if n.Public = p; p != PublicNone && !allowed {
		return apierr.New(apierr.Conflict, CodePublicAccess, "Public access is not permitted on this storage account.")
	}
	return nil
}

// completeContainer gives a container its defaults.
func (p *provider) completeContainer(_ context.Context, old, next *arm.Resource[ContainerProperties]) error {
	if old == nil {
		next.Private[uidKey] = uuid.NewString()
	} else {
		if next.Properties.Public == "" {
			next.Properties.Public = old.Properties.Public
		}
		if next.Properties.Metadata == nil {
			next.Properties.Metadata = old.Properties.Metadata
		}
	}
	next.Properties.Modified = p.Now().UTC().Format(azureTime)
	return nil
}

func (p *provider) validateContainer(ctx context.Context, _, next *arm.Resource[ContainerProperties]) error {
	service := next.ID.Parent()
	if !strings.EqualFold(service.Name(), "default") {
		return bad("", "The blob service of an account is called 'default'.")
	}
	n := &next.Properties
	for _, c := range []struct {
		refused       bool
		property, why string
	}{
		{n.Scope != "" && !strings.EqualFold(n.Scope, "$account-encryption-key"), "defaultEncryptionScope", "there are no encryption scopes"},
		{is(n.NoOther), "denyEncryptionScopeOverride", "there are no encryption scopes"},
		{n.Immutable != nil && n.Immutable.Enabled, "immutableStorageWithVersioning", "blobs can always be changed by who may"},
		{is(n.NFSSquash), "enableNfsV3RootSquash", "there is no NFS"},
		{is(n.NFSAll), "enableNfsV3AllSquash", "there is no NFS"},
	} {
		if c.refused {
			return bad("properties."+c.property, "The property '%s' is not supported: %s.", c.property, c.why)
		}
	}
	for k, v := range n.Metadata {
		if !ValidMetadata(k, v) {
			return bad("properties.metadata", "The metadata '%s' is invalid: names are letters, digits and underscores and begin with no digit; values are printable ASCII.", k)
		}
	}
	acc, err := p.accounts.ByName(ctx, service.Parent().Name())
	if err != nil {
		return err
	}
	return checkPublic(n, acc.Anonymous)
}

// ValidMetadata keeps the rule of metadata's names and values, which travel as headers.
func ValidMetadata(name, value string) bool {
	ok := name != "" && (name[0] < '0' || name[0] > '9')
	for i := range len(name) {
		c := name[i] | 0x20
		ok = ok && (c >= 'a' && c <= 'z' || name[i] >= '0' && name[i] <= '9' || name[i] == '_')
	}
	for i := range len(value) {
		ok = ok && value[i] >= ' ' && value[i] < 0x7f
	}
	return ok && strings.TrimSpace(value) == value
}

// deleteContainer erases what a container held.
func (p *provider) deleteContainer(ctx context.Context, old *arm.Resource[ContainerProperties]) error {
	acc, err := p.accounts.ByName(ctx, old.ID.Parent().Parent().Name())
	if apierr.Is(err, apierr.NotFound) {
		return nil // the account's own deletion erases all
	}
	if err != nil {
		return err
	}
	d := dead{Account: acc.UID, Container: old.Private[uidKey]}
	if d.Container == "" {
		return nil
	}
	if err := p.accounts.markDead(ctx, d); err != nil {
		return err
	}
	return p.buryNow(ctx, d)
}

// showContainer fills in what every container is here.
func showContainer(_ context.Context, r *arm.Resource[ContainerProperties]) error {
	no, sealed := false, r.Private[sealedKey] != ""
	n := &r.Properties
	n.LeaseStatus, n.LeaseState = "Unlocked", "Available"
	n.Policy, n.Hold, n.NoOther = &sealed, &no, &no
	n.Scope, n.Immutable = "$account-encryption-key", &Immutable{}
	return nil
}
