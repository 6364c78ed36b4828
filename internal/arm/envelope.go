package arm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/strictjson"
)

// Envelope is a resource as it is stored: what every type has in common, and
// the properties as the client wrote them, unknown ones included.
type Envelope struct {
	ID         string                     `json:"id"`
	Name       string                     `json:"name"`
	Type       string                     `json:"type"`
	Location   string                     `json:"location,omitempty"`
	Tags       map[string]string          `json:"tags,omitempty"`
	Properties map[string]any             `json:"properties,omitempty"`
	Extra      map[string]json.RawMessage `json:"extra,omitempty"`   // other top-level members, as sent: identity, sku, kind, …
	Private    map[string]string          `json:"private,omitempty"` // for the type's hooks; never on the wire
	System     SystemData                 `json:"systemData"`

	rev int64 // of the stored document; 0 when it is not stored yet
}

// SystemData says who made and changed a resource.
// Source: ARM common types v3, systemData.
type SystemData struct {
	CreatedBy          string    `json:"createdBy"`
	CreatedByType      string    `json:"createdByType"` // "User" or "Application"
	CreatedAt          time.Time `json:"createdAt"`
	LastModifiedBy     string    `json:"lastModifiedBy"`
	LastModifiedByType string    `json:"lastModifiedByType"`
	LastModifiedAt     time.Time `json:"lastModifiedAt"`
}

// RID is the parsed id.
func (e *Envelope) RID() rid.ID { return rid.MustParse(e.ID) }

// ETag is the strong entity tag of the stored revision (RFC 9110 section 8.8.3).
func (e *Envelope) ETag() string { return fmt.Sprintf(`"%08x"`, e.rev) }

// State is properties.provisioningState, "" when the type has none.
func (e *Envelope) State() string {
	s, _ := e.Properties["provisioningState"].(string)
	return s
}

func (e *Envelope) setState(s string) {
	if e.Properties == nil {
		e.Properties = map[string]any{}
	}
	e.Properties["provisioningState"] = s
}

func (e *Envelope) clone() *Envelope {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // an Envelope holds nothing that JSON cannot
	}
	c, err := DecodeEnvelope(store.Doc{Key: e.ID, Rev: e.rev, Value: b})
	if err != nil {
		panic(err)
	}
	return c
}

// decodeNumber is json.Unmarshal that keeps numbers as they were written.
func decodeNumber(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(v)
}

// wire is the resource as clients see it. Expand names further members that
// the caller asked for ($expand): createdTime, changedTime, provisioningState.
func (e *Envelope) wire(expand []string) map[string]any {
	m := map[string]any{"id": e.ID, "name": e.Name, "type": e.Type}
	if e.Location != "" {
		m["location"] = e.Location
	}
	if e.Tags != nil {
		m["tags"] = e.Tags
	}
	if e.Properties != nil {
		m["properties"] = e.Properties
	}
	for k, v := range e.Extra {
		m[k] = v
	}
	if !e.System.CreatedAt.IsZero() && e.Type != rid.TypeResourceGroup {
		m["systemData"] = e.System
	}
	for _, x := range expand {
		switch strings.ToLower(strings.TrimSpace(x)) {
		case "createdtime":
			m["createdTime"] = e.System.CreatedAt
		case "changedtime":
			m["changedTime"] = e.System.LastModifiedAt
		case "provisioningstate":
			m["provisioningState"] = "Succeeded" // also of types that show none
			if s := e.State(); s != "" {
				m["provisioningState"] = s
			}
		}
	}
	return m
}

// summary is the resource in a list of resources of all types. Source:
// Resources - List, GenericResourceExpanded.
func (e *Envelope) summary(expand []string) map[string]any {
	m := e.wire(expand)
	for k := range m {
		switch k {
		case "id", "name", "type", "location", "tags", "identity", "sku", "kind", "plan", "zones", "managedBy", "extendedLocation",
			"createdTime", "changedTime", "provisioningState":
		default:
			delete(m, k)
		}
	}
	return m
}

// Resources reads and writes stored resources. Providers use it to look at
// resources that are not their own, as Azure's do over HTTP.
type Resources struct{ Store store.Store }

// KeyPrefix begins the key of every stored resource.
const KeyPrefix = "arm"

func docKey(id rid.ID) string { return KeyPrefix + id.Key() }

// ResourceKey is the store key of the resource with the id.
func ResourceKey(id rid.ID) string { return docKey(id) }

// Get gives the resource or store.ErrNotFound.
func (s Resources) Get(ctx context.Context, id rid.ID) (*Envelope, error) {
	doc, err := s.Store.Get(ctx, docKey(id))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", id, err)
	}
	return DecodeEnvelope(doc)
}

// DecodeEnvelope reads a stored resource.
func DecodeEnvelope(doc store.Doc) (*Envelope, error) { return decodeEnvelope(doc, true) }

// decodeEnvelope leaves out properties and private, if not whole: lists of many
// types show neither.
func decodeEnvelope(doc store.Doc, whole bool) (*Envelope, error) {
	e := &Envelope{}
	err := strictjson.Members(doc.Value, func(name, value []byte) error {
		if !whole && (string(name) == "properties" || string(name) == "private") {
			return nil
		}
		return e.decodeMember(name, value)
	})
	if err != nil { // encoding/json takes more, and knows better what is wrong
		e = &Envelope{}
		if err := decodeNumber(doc.Value, e); err != nil {
			return nil, fmt.Errorf("decode %s: %w", doc.Key, err)
		}
	}
	e.rev = doc.Rev
	return e, nil
}

// maxNesting is deeper than any request's body.
const maxNesting = 1000

var errMember = errors.New("a member has another type than it was written with")

func (e *Envelope) decodeMember(name, value []byte) error {
	switch string(name) {
	case "id":
		return decodeText(value, &e.ID)
	case "name":
		return decodeText(value, &e.Name)
	case "type":
		return decodeText(value, &e.Type)
	case "location":
		return decodeText(value, &e.Location)
	case "properties":
		v, err := strictjson.Value(value, maxNesting)
		var ok bool
		if e.Properties, ok = v.(map[string]any); !ok && err == nil {
			err = errMember
		}
		return err
	case "tags":
		e.Tags = map[string]string{}
		return decodeTexts(value, e.Tags)
	case "private":
		e.Private = map[string]string{}
		return decodeTexts(value, e.Private)
	case "extra":
		e.Extra = map[string]json.RawMessage{}
		return decodeObject(value, func(name, value []byte) error {
			e.Extra[string(name)] = value
			return nil
		})
	case "systemData":
		return decodeObject(value, e.System.decodeMember)
	}
	return nil
}

func (d *SystemData) decodeMember(name, value []byte) error {
	switch string(name) {
	case "createdBy":
		return decodeText(value, &d.CreatedBy)
	case "createdByType":
		return decodeText(value, &d.CreatedByType)
	case "createdAt":
		return d.CreatedAt.UnmarshalJSON(value)
	case "lastModifiedBy":
		return decodeText(value, &d.LastModifiedBy)
	case "lastModifiedByType":
		return decodeText(value, &d.LastModifiedByType)
	case "lastModifiedAt":
		return d.LastModifiedAt.UnmarshalJSON(value)
	}
	return nil
}

func decodeText(value []byte, to *string) (err error) {
	var ok bool
	if *to, ok = strictjson.Text(value); !ok {
		err = errMember
	}
	return err
}

func decodeTexts(value []byte, to map[string]string) error {
	return decodeObject(value, func(name, value []byte) error {
		var s string
		err := decodeText(value, &s)
		to[string(name)] = s
		return err
	})
}

func decodeObject(value []byte, fn func(name, value []byte) error) error {
	ok, err := strictjson.MembersOf(value, fn)
	if err == nil && !ok {
		err = errMember
	}
	return err
}

// Put stores e: creates it when it was not read from the store, else replaces
// the revision that was read; store.ErrConflict when that has changed.
func (s Resources) Put(ctx context.Context, e *Envelope) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode %s: %w", e.ID, err)
	}
	rev, err := s.Store.Put(ctx, store.Doc{
		Key: docKey(e.RID()), Rev: e.rev, Kind: strings.ToLower(e.Type), Value: b,
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", e.ID, err)
	}
	e.rev = rev
	return nil
}

// Delete removes the stored resource; a missing one is no error.
func (s Resources) Delete(ctx context.Context, id rid.ID) error {
	err := s.Store.Delete(ctx, docKey(id), 0)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("delete %s: %w", id, err)
	}
	return nil
}

// List gives the stored resources under scope (itself excluded), of one type
// or of all when typ is "", in the order of their ids; after is the id of the
// last one of the page before.
func (s Resources) List(ctx context.Context, scope rid.ID, typ, after string, limit int) ([]*Envelope, error) {
	q := store.Query{Prefix: strings.TrimSuffix(docKey(scope), "/") + "/", Kind: strings.ToLower(typ), Limit: limit}
	if after != "" {
		q.After = KeyPrefix + strings.ToLower(after)
	}
	docs, err := s.Store.List(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list %s under %s: %w", typ, scope, err)
	}
	list := make([]*Envelope, 0, len(docs))
	for _, d := range docs {
		e, err := DecodeEnvelope(d)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// toMap turns a struct into the JSON object it encodes to.
func toMap(v any) (map[string]any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	m := map[string]any{}
	return m, decodeNumber(b, &m)
}

// applyDiff carries what changed from was to is over into raw, at any depth,
// and leaves alone what neither of them knows.
func applyDiff(raw, was, is map[string]any) {
	for k, v := range is {
		old, had := was[k]
		oldMap, ok1 := old.(map[string]any)
		newMap, ok2 := v.(map[string]any)
		if ok1 && ok2 {
			if rawMap, ok := raw[k].(map[string]any); ok {
				applyDiff(rawMap, oldMap, newMap)
				continue
			}
		}
		if !had || !reflect.DeepEqual(old, v) {
			raw[k] = v
		}
	}
	for k := range was {
		if _, ok := is[k]; !ok {
			delete(raw, k)
		}
	}
}
