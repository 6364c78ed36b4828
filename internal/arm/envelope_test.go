package arm_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/store"
)

const storedIdentity = `{"id":"/subscriptions/s/resourceGroups/g/providers/A.B/c/d","name":"d","type":"A.B/c","location":"eastus","tags":{"a":"b","é":"\u00e9"},` +
	`"properties":{"n":1.50,"list":[1,"two",{"three":null}],"provisioningState":"Succeeded"},"extra":{"sku":{"name":"x"},"kind":"k","zones":["1"]},` +
	`"private":{"uid":"u"},"systemData":{"createdBy":"o","createdByType":"User","createdAt":"2026-01-02T03:04:05.678Z","lastModifiedBy":"o",` +
	`"lastModifiedByType":"Application","lastModifiedAt":"2026-01-02T03:04:05Z"}}`

// What is decoded quickly is what encoding/json would have decoded.
func FuzzDecodeEnvelope(f *testing.F) {
	for _, s := range []string{
		storedIdentity, `{}`, `{"id":"x","systemData":{}}`, `{"id":1}`, `{"properties":[]}`, `{"tags":{"a":1}}`, `{"systemData":{"createdAt":"x"}}`, `{"extra":{"a":{"b":1,"b":2}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if lower := bytes.ToLower(raw); !bytes.Equal(lower, raw) && !bytes.Contains(raw, []byte("systemData")) || strings.Contains(string(raw), "null") {
			return // encoding/json looks for members without case, and takes null for anything
		}
		var want arm.Envelope
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		if !json.Valid(raw) || dec.Decode(&want) != nil {
			return
		}
		got, err := arm.DecodeEnvelope(store.Doc{Key: "k", Rev: 7, Value: raw})
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if d := cmp.Diff(&want, got, cmpopts.IgnoreUnexported(arm.Envelope{}), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%q: %s", raw, d)
		}
	})
}

func TestDecodeEnvelope_KeepsWhatWasStored(t *testing.T) {
	e, err := arm.DecodeEnvelope(store.Doc{Key: "k", Rev: 7, Value: []byte(storedIdentity)})
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := json.Unmarshal([]byte(storedIdentity), &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(again, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" || e.ETag() != `"00000007"` {
		t.Errorf("etag %s %s", e.ETag(), d)
	}
	if _, err := arm.DecodeEnvelope(store.Doc{Key: "k", Value: []byte(`{"id":`)}); err == nil {
		t.Error("half a document was accepted")
	}
}

func BenchmarkDecodeEnvelope(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := arm.DecodeEnvelope(store.Doc{Key: "k", Rev: 7, Value: []byte(storedIdentity)}); err != nil {
			b.Fatal(err)
		}
	}
}
