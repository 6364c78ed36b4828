package vaultdata

import "time"

// attrs are the stored attributes of one version; times in Unix seconds.
type attrs struct {
	Enabled   bool   `json:"enabled"`
	NotBefore *int64 `json:"nbf,omitempty"`
	Expires   *int64 `json:"exp,omitempty"`
	Created   int64  `json:"created"`
	Updated   int64  `json:"updated"`
}

// AttributesIn are the attributes that a caller may set. Absent ones keep
// their value in an update and take their default in a creation.
type AttributesIn struct {
	Enabled    *bool  `json:"enabled"`
	NotBefore  *int64 `json:"nbf"`
	Expires    *int64 `json:"exp"`
	Exportable *bool  `json:"exportable"` // keys only
}

// Attributes are the attributes as every answer shows them.
type Attributes struct {
	Enabled         bool   `json:"enabled"`
	NotBefore       *int64 `json:"nbf,omitempty"`
	Expires         *int64 `json:"exp,omitempty"`
	Created         int64  `json:"created"`
	Updated         int64  `json:"updated"`
	RecoveryLevel   string `json:"recoveryLevel"`
	RecoverableDays int    `json:"recoverableDays"`
	Exportable      *bool  `json:"exportable,omitempty"` // keys only
}

// newAttrs are the attributes of a version made now.
func newAttrs(in *AttributesIn, now time.Time) (attrs, error) {
	a := attrs{Enabled: true, Created: now.Unix(), Updated: now.Unix()}
	err := a.apply(in, now)
	return a, err
}

// apply sets what in says and refuses an empty window of validity.
func (a *attrs) apply(in *AttributesIn, now time.Time) error {
	a.Updated = now.Unix()
	if in == nil {
		return nil
	}
	if in.Enabled != nil {
		a.Enabled = *in.Enabled
	}
	if in.NotBefore != nil {
		a.NotBefore = in.NotBefore
	}
	if in.Expires != nil {
		a.Expires = in.Expires
	}
	if a.NotBefore != nil && *a.NotBefore < 0 || a.Expires != nil && *a.Expires < 0 {
		return badProperty("attributes", "nbf and exp are seconds since 1970 and not negative")
	}
	if a.NotBefore != nil && a.Expires != nil && *a.Expires <= *a.NotBefore {
		return badProperty("attributes", "exp must be later than nbf")
	}
	return nil
}

// show is a as answers of the vault show it.
func (a attrs) show(v *Vault) Attributes {
	return Attributes{
		Enabled: a.Enabled, NotBefore: a.NotBefore, Expires: a.Expires,
		Created: a.Created, Updated: a.Updated,
		RecoveryLevel: v.recoveryLevel(), RecoverableDays: v.RetentionDays,
	}
}

// Deletion is the part of an answer that a soft-deleted object adds.
type Deletion struct {
	RecoveryID         string `json:"recoveryId"`
	DeletedDate        int64  `json:"deletedDate"`
	ScheduledPurgeDate int64  `json:"scheduledPurgeDate"`
}
