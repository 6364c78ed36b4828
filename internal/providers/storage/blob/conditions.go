package blob

import (
	"net/http"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
)

// conditions are the If-… headers of a request. Source: "Specifying conditional
// headers for Blob service operations".
type conditions struct {
	match, none     string
	since, notSince time.Time
	create          bool // an If-None-Match of * refuses as creations do
}

func conditionsOf(h http.Header) (conditions, error) { return conditionsIn(h, "") }

// sourceConditions are those on the source of a copy.
func sourceConditions(h http.Header) (conditions, error) { return conditionsIn(h, "x-ms-source-") }

func conditionsIn(h http.Header, prefix string) (c conditions, err error) {
	c.match, c.none = h.Get(prefix+"If-Match"), h.Get(prefix+"If-None-Match")
	if h.Get(prefix+"x-ms-if-tags") != "" || h.Get("x-ms-if-tags") != "" || h.Get("x-ms-source-if-tags") != "" {
		return c, noTags()
	}
	for name, to := range map[string]*time.Time{"If-Modified-Since": &c.since, "If-Unmodified-Since": &c.notSince} {
		v := h.Get(prefix + name)
		if v == "" {
			continue
		}
		if *to, err = http.ParseTime(v); err != nil {
			return c, invalidHeader(prefix+name, v)
		}
	}
	return c, nil
}

func noTags() error {
	return apierr.New(apierr.Conflict, "BlobTagsNotSupportedForAccountType", "Blob tags aren't supported: this service keeps none.")
}

func has(list, tag string) bool {
	for one := range strings.SplitSeq(list, ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.Trim(strings.TrimPrefix(one, "W/"), `"`) == strings.Trim(tag, `"`) {
			return true
		}
	}
	return false
}

func notMet() error {
	return apierr.New(apierr.PreconditionFailed, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")
}

func notModified() error {
	return apierr.New(apierr.PreconditionFailed, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.").WithInner("304")
}

// state is what conditions are judged by.
func (c conditions) judge(tag string, modified time.Time, unchanged func() error) error {
	switch {
	case c.match != "" && !has(c.match, tag):
		return notMet()
	case c.match == "" && !c.notSince.IsZero() && modified.After(c.notSince):
		return notMet()
	case c.none != "" && has(c.none, tag):
		return unchanged()
	case c.none == "" && !c.since.IsZero() && !modified.After(c.since):
		return unchanged()
	}
	return nil
}

// read judges the conditions of a request that reads.
func (c conditions) read(d *blobDoc) error { return c.judge(etag(d.Tick), d.Modified, notModified) }

// write judges the conditions of a request that writes; d is nil where there is
// no blob.
func (c conditions) write(d *blobDoc) error {
	if d == nil {
		if c.match != "" || !c.notSince.IsZero() && c.create {
			return notMet()
		}
		return nil
	}
	if c.create && strings.TrimSpace(c.none) == "*" {
		return apierr.New(apierr.Conflict, "BlobAlreadyExists", "The specified blob already exists.")
	}
	return c.judge(etag(d.Tick), d.Modified, notMet)
}
