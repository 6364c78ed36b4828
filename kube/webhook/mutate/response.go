package mutate

import (
	"encoding/base64"
	"strconv"
)

// Allow appends to dst the review's answer with a patch; an empty patch, "[]",
// is left out.
func (r *Review) Allow(dst, patch []byte) []byte {
	b := append(r.head(dst), `true`...)
	if len(patch) > len("[]") {
		b = append(b, `,"patchType":"JSONPatch","patch":"`...)
		b = base64.StdEncoding.AppendEncode(b, patch)
		b = append(b, '"')
	}
	return append(b, `}}`...)
}

// Refuse appends to dst the review's answer that the pod is not admitted, with
// an HTTP status code and a message.
func (r *Review) Refuse(dst []byte, code int, message string) []byte {
	b := append(r.head(dst), `false,"status":{"metadata":{},"message":`...)
	b = append(appendString(b, message), `,"code":`...)
	b = strconv.AppendInt(b, int64(code), 10)
	return append(b, `}}}`...)
}

func (r *Review) head(dst []byte) []byte {
	b := append(dst, `{"kind":"AdmissionReview","apiVersion":"`...)
	b = append(append(b, r.APIVersion...), `","response":{"uid":`...)
	return append(appendString(b, r.UID), `,"allowed":`...)
}
