package compute_test

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
)

// blobs is as much of a storage account as the initializer needs.
type blobs struct{}

func (*blobs) content() map[string]string {
	return map[string]string{
		"models/LocalUpload/h/model/deep/model.txt": "a model", "models/LocalUpload/h/model/MLmodel": "flavors:", "models/one.txt": "one",
		"models/LocalUpload/h/model2/not.txt": "of another",
	}
}

func (b *blobs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	if strings.HasPrefix(path, "closed") {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "<Error><Code>AuthorizationPermissionMismatch</Code><Message>This request is not authorized to perform this operation using this permission.\nRequestId:1</Message></Error>")
		return
	}
	if r.URL.Query().Get("comp") == "list" {
		fmt.Fprint(w, `<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>`)
		for name := range b.content() {
			if rest, ok := strings.CutPrefix(name, path+"/"); ok && strings.HasPrefix(rest, r.URL.Query().Get("prefix")) {
				fmt.Fprint(w, "<Blob><Name>")
				_ = xml.EscapeText(w, []byte(rest))
				fmt.Fprint(w, "</Name></Blob>")
			}
		}
		fmt.Fprint(w, `</Blobs><NextMarker/></EnumerationResults>`)
		return
	}
	text, ok := b.content()[path]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<Error><Code>BlobNotFound</Code></Error>")
		return
	}
	fmt.Fprint(w, text)
}
